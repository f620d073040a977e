"""What cannot be exported is refused by name and line, before anything is lowered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import export_stablehlo
from jaxcompress.backend import fast_convolutions, onednn

KERNEL, X = {"kernel": jnp.ones((3, 3))}, jnp.ones((2, 3))
LINE = r"test_exportable\.py:\d+ \({}\)"


def printing(variables: Any, x: jax.Array) -> jax.Array:
    jax.debug.print("{}", x)

    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        return jax.pure_callback(np.sin, x, x)

    return jax.lax.map(inner, x)


def foreign(variables: Any, x: jax.Array) -> jax.Array:
    return jax.ffi.ffi_call("some_kernel", x)(x)


def as_many_as_positive(variables: Any, x: jax.Array) -> jax.Array:
    return x[x > 0]


def branching(variables: Any, x: jax.Array) -> jax.Array:
    return x if x[0, 0] > 0 else -x


def by_batch(variables: Any, x: jax.Array) -> jax.Array:
    return x / float(x.shape[0])


def two_rows(variables: Any, x: jax.Array) -> jax.Array:
    return x + jnp.ones((2, 3))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (printing, rf"debug_print at .*{LINE.format('printing')} calls this Python process; pure_"),
        (printing, rf"pure_callback at .*{LINE.format('.*inner')} calls this Python process"),
        (foreign, rf"ffi_call at .*{LINE.format('foreign')} calls 'some_kernel', a kernel of one"),
        (as_many_as_positive, rf"{LINE.format('as_many_as_positive')} they depend on values: "),
        (branching, rf"{LINE.format('branching')} they depend on values: .*jax.lax.cond"),
        (by_batch, rf"\[\(batch, 3\)\].* axis 0.*{LINE.format('by_batch')} .*batch_axis=None"),
        (two_rows, rf"\[\(batch, 3\)\].*{LINE.format('two_rows')} .*`batch`, must be a number"),
    ],
)
def test_what_cannot_be_exported_is_named(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        export_stablehlo(function, KERNEL, X)


def test_the_same_function_is_exported_at_numbers() -> None:
    assert export_stablehlo(two_rows, KERNEL, X, batch_axis=None)


@pytest.mark.skipif(
    not onednn.available(), reason="this jaxlib has no oneDNN calls that were tried"
)
def test_onednn_does_not_leak_into_a_program() -> None:
    def convolve(kernel: jax.Array, images: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )

    images, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match=r"onednn\$convolution.* without .*fast_convolutions"):
        export_stablehlo(fast_convolutions(convolve), kernel, images)
    assert b"onednn" not in export_stablehlo(convolve, kernel, images)


def test_an_axis_that_no_input_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no axis 2 in their shapes \[\(2, 3\)\]"):
        export_stablehlo(two_rows, KERNEL, X, batch_axis=2)
