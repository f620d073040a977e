"""Toys about single operations on channels: what must stay frozen, and what need not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tests.toys.leaves import ROWS
from tests.toys.record import Toy, draw

__all__ = ["TOYS"]


def unknown_primitives() -> Toy:
    """A callback, cumsum, sort and fft each freeze the channels they touch, with the reason."""
    names = ("callback", "cumsum", "sort", "fft", "free")
    shapes = {name: (4, 4) for name in names} | {f"{name}_out": (4, 2) for name in names}

    def called(hidden: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct(hidden.shape, hidden.dtype)
        return jax.pure_callback(lambda array: array * 2, shape, hidden)

    functions = {
        "callback": lambda hidden: called(lax.stop_gradient(hidden)),
        "cumsum": lambda hidden: jnp.cumsum(hidden, axis=-1),
        "sort": lambda hidden: jnp.sort(hidden, axis=-1),
        "fft": lambda hidden: jnp.abs(jnp.fft.fft(hidden, axis=-1)),
        "free": jnp.tanh,
    }

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        parts = [
            functions[name](inputs @ variables[name]) @ variables[f"{name}_out"] for name in names
        ]
        return sum(parts[1:], parts[0])

    return Toy(apply, draw(10, shapes), (ROWS,), {"free[1]": 4}, frozen="pure_callback")


def normalised() -> Toy:
    """LayerNorm and a softmax over channels, BatchNorm over inputs: none of them freezes any."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 4), "head": (4, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.standardize(inputs @ variables["first"], axis=-1)
        # Sharp: where examples are nearly alike, E[x²] - E[x]² rounds away their variance (by
        # 1e-7 x mean² / variance, here at most 1e-5 instead of 2e-4).
        hidden = jax.nn.softmax(4 * (hidden @ variables["second"]))
        hidden = jax.nn.standardize(hidden @ variables["third"], axis=0)
        return hidden @ variables["head"]

    groups = {"first[1]": 6, "second[1]": 5, "third[1]": 4}
    return Toy(apply, draw(11, shapes), (ROWS,), groups, independent=False)


def pieces() -> Toy:
    """Stack, tile, reverse, roll, pad, where and outer products of channels."""
    shapes = {"first": (4, 6), "second": (12, 4), "third": (4, 3), "head": (12, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])
        hidden = jnp.roll(jnp.flip(jnp.tile(hidden, 2), axis=-1), 2, axis=-1)
        hidden = jnp.where(hidden > 0, hidden, 0.1 * hidden)
        left = jnp.pad(hidden @ variables["second"], ((0, 0), (0, 0)), constant_values=1.0)
        right = inputs @ variables["third"]
        outer = (left[:, :, None] * right[:, None, :]).reshape(inputs.shape[0], 12)
        return jnp.stack([outer, outer]).mean(0) @ variables["head"]

    return Toy(apply, draw(12, shapes), (ROWS,), {"first[1]": 6, "second[1]": 4})


TOYS = (unknown_primitives, normalised, pieces)
