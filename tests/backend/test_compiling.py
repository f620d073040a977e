"""What the library compiles itself: fast where nothing is split, the same numbers everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import parallel
from jaxcompress.annotations import Function
from jaxcompress.backend import compiled, compiling, fast_if_large, is_alone


def total(kernel: jax.Array, images: jax.Array) -> jax.Array:
    """Sum a depthwise convolution's squares; its gradients are the slow ones."""
    numbers = ("NHWC", "HWIO", "NHWC")
    outputs = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=8
    )
    return jnp.square(outputs).sum()


KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 1, 8))
IMAGES = jax.random.normal(jax.random.key(1), (8, 6, 6, 8))


def convolutions(function: Function, *arrays: jax.Array) -> int:
    return str(jax.make_jaxpr(function)(*arrays)).count("conv_general_dilated[")


def test_large_programs_are_rewritten_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradient = jax.grad(total)
    assert convolutions(fast_if_large(gradient), KERNEL, IMAGES) == 2
    monkeypatch.setattr(compiling, "LARGE", 1e4)
    expected = jax.jit(gradient)(KERNEL, IMAGES)
    actual = compiled(gradient)(KERNEL, IMAGES)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert "conv_general_dilated" not in jax.jit(fast_if_large(gradient)).lower(
        KERNEL, IMAGES
    ).as_text("hlo")


def test_what_is_split_is_left_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_work", lambda _: pytest.fail("it was rewritten"))
    mesh = parallel.mesh()
    batch = parallel.shard_batch(np.asarray(IMAGES), mesh)
    kernel = parallel.replicate(KERNEL, mesh)
    assert is_alone((KERNEL, IMAGES)) and not is_alone((kernel, batch))
    expected = jax.jit(jax.grad(total))(KERNEL, IMAGES)
    for run in (compiled(jax.grad(total)), jax.jit(compiled(jax.grad(total)))):
        np.testing.assert_allclose(run(kernel, batch), expected, rtol=1e-5)
