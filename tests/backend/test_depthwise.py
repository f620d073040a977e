"""Depthwise convolutions as shifted products: the same values and gradients as XLA's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.backend import fast_convolutions
from tests.toys.record import rows

LAST, FIRST = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
CASES: list[dict[str, Any]] = [
    {"window_strides": (1, 1), "padding": "SAME"},
    {"window_strides": (2, 2), "padding": "SAME", "dimension_numbers": FIRST},
    {"window_strides": (2, 1), "padding": "VALID", "rhs_dilation": (2, 2)},
    {"window_strides": (1, 2), "padding": ((2, 1), (0, 3)), "dimension_numbers": FIRST},
]
CHANNELS = 6


def with_gradients(case: dict[str, Any], groups: int = CHANNELS) -> Callable[..., Any]:
    """Return a convolution and its gradients."""
    settings = {"dimension_numbers": LAST, "feature_group_count": groups, **case}

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(images, kernel, **settings)

    def function(images: jax.Array, kernel: jax.Array) -> Any:
        loss = lambda *operands: jnp.sin(convolve(*operands)).sum()  # noqa: E731
        return convolve(images, kernel), jax.grad(loss, (0, 1))(images, kernel)

    return function


def operands(case: dict[str, Any], dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
    """Return images and a kernel as the case lays them out."""
    images, kernel = rows(3, 7, 9, CHANNELS), rows(3, 3, 1, CHANNELS)
    if case.get("dimension_numbers") == FIRST:
        images, kernel = images.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    return jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)


@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_values_and_gradients_are_those_of_the_convolution(case: dict[str, Any]) -> None:
    function, given = with_gradients(case), operands(case)
    fast = jax.jit(fast_convolutions(function))
    wanted, actual = jax.jit(function)(*given), fast(*given)
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(actual), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, atol=5e-6 * float(jnp.abs(a).max()))
    assert "convolution" not in fast.lower(*given).as_text()


def test_half_precision_is_summed_in_float32() -> None:
    function, given = with_gradients(CASES[0]), operands(CASES[0], jnp.bfloat16)
    actual = jax.jit(fast_convolutions(function))(*given)
    exact = jax.jit(function)(*(operand.astype(jnp.float32) for operand in given))
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(actual), strict=True):
        assert b.dtype == jnp.bfloat16
        np.testing.assert_allclose(b.astype(jnp.float32), a, atol=2**-7 * float(jnp.abs(a).max()))


def test_groups_of_several_channels_stay() -> None:
    images, kernel = rows(3, 7, 9, CHANNELS), rows(3, 3, 2, CHANNELS)
    program = jax.make_jaxpr(fast_convolutions(with_gradients(CASES[0], 3)))(images, kernel)
    assert str(program).count("conv_general_dilated[") == 3 + 1


def test_other_platforms_keep_the_convolution() -> None:
    given = operands(CASES[0])
    fast = jax.jit(fast_convolutions(with_gradients(CASES[0])))
    lowered = fast.trace(*given).lower(lowering_platforms=("tpu",)).as_text()
    assert lowered.count("stablehlo.convolution") >= 3 and "while" not in lowered


def test_a_wider_result_keeps_its_type() -> None:
    images, kernel = operands(CASES[0], jnp.bfloat16)
    wide = {**CASES[0], "dimension_numbers": LAST, "feature_group_count": CHANNELS}

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            images, kernel, preferred_element_type=jnp.float32, **wide
        )

    convolved = jax.jit(fast_convolutions(convolve))(images, kernel)
    assert convolved.dtype == jnp.float32
    wanted = jax.jit(convolve)(images, kernel)
    np.testing.assert_allclose(convolved, wanted, rtol=1e-5, atol=1e-5)
