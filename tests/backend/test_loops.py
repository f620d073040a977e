"""Convolutions in loops, branches and `jax.checkpoint` are fast ones too, gradients included."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxcompress.backend import fast_convolutions
from tests.backend.test_convolutions import (
    largest_error,
    needs_onednn,
    operands,
    primitives,
    with_gradients,
)

CALLS = {"jit", "pjit"}


def calls(function: Callable[..., Any], *args: Any) -> int:
    return primitives(function, *args).count("ffi_call")


def convolutions(function: Callable[..., Any], *args: Any) -> int:
    return primitives(function, *args).count("conv_general_dilated")


def in_scan(step: Callable[..., Any], kernel: jax.Array, images: jax.Array) -> Any:
    return jax.lax.scan(lambda kernel, _: (step(kernel, images), None), kernel, None, length=2)[0]


def in_while(step: Callable[..., Any], kernel: jax.Array, images: jax.Array) -> Any:
    rounds = jnp.int32(images[0, 0, 0, 0] * 0 + 2)
    return jax.lax.fori_loop(0, rounds, lambda _, kernel: step(kernel, images), kernel)


def in_branch(step: Callable[..., Any], kernel: jax.Array, images: jax.Array) -> Any:
    is_finite = jnp.isfinite(images).all()
    return jax.lax.cond(is_finite, step, lambda kernel, _: kernel, kernel, images)


def in_checkpoint(step: Callable[..., Any], kernel: jax.Array, images: jax.Array) -> Any:
    return jax.grad(lambda kernel: (jax.checkpoint(step)(kernel, images) ** 2).sum())(kernel)


@needs_onednn
@pytest.mark.parametrize("wrapped", [in_scan, in_while, in_branch, in_checkpoint])
def test_gradients_in_loops_branches_and_checkpoints_call_it(wrapped: Callable[..., Any]) -> None:
    images, kernel = operands((8, 8, 4, 4, 3, 1, 1))

    def loss(kernel: jax.Array, images: jax.Array) -> jax.Array:
        result, *_ = with_gradients(1, 1)(images, kernel)
        return jnp.square(jax.nn.relu(result)).mean()

    def step(kernel: jax.Array, images: jax.Array) -> jax.Array:
        return kernel - 0.1 * jax.grad(loss)(kernel, images)

    plain = functools.partial(wrapped, step)
    fast = fast_convolutions(plain)
    assert set(primitives(plain, kernel, images)) - set(primitives(fast, kernel, images)) <= CALLS
    assert calls(fast, kernel, images) == convolutions(plain, kernel, images) > 0
    assert largest_error(jax.jit(fast)(kernel, images), jax.jit(plain)(kernel, images)) < 5e-6


@needs_onednn
def test_gradients_through_a_loop_call_it() -> None:
    images, kernel = operands((8, 8, 4, 4, 3, 1, 1))

    def trained(kernel: jax.Array, images: jax.Array) -> jax.Array:
        def step(kernel: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            loss = lambda kernel: jnp.square(with_gradients(1, 1)(images, kernel)[0]).mean()  # noqa: E731
            value, slope = jax.value_and_grad(loss)(kernel)
            return kernel - 0.1 * slope, value

        return jax.lax.scan(step, kernel, None, length=2)[1].sum()

    plain = jax.grad(trained)
    fast = fast_convolutions(plain)
    assert calls(fast, kernel, images) == convolutions(plain, kernel, images) > 3
    assert largest_error(jax.jit(fast)(kernel, images), jax.jit(plain)(kernel, images)) < 5e-6
