"""Toys whose layers may go: stacked under a scan, in nests of scans, or as whole branches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tests.toys.record import Toy, draw, rows

__all__ = ["TOYS"]

ROWS = rows(5, 4)


def _block(stream: jax.Array, layer: Any) -> jax.Array:
    return stream + jnp.tanh(stream @ layer["up"] + layer["shift"]) @ layer["down"]


def _stacked(*sizes: int) -> dict[str, tuple[int, ...]]:
    return {"up": (*sizes, 6, 8), "shift": (*sizes, 8), "down": (*sizes, 8, 6)}


SHAPES = {"embed": (4, 6), **_stacked(4), "head": (6, 3)}
LAYERS = ("up", "shift", "down")
GROUPS = {"down[0]": 4, "down[2]": 6, "up[2]": 8}


def scanned_layers() -> Toy:
    """A scan that carries a counter and a key beside the stream, last layer first."""

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        def step(carry: Any, row: Any) -> Any:
            (stream, count, key), (layer, number, noise) = carry, row
            key, now = jax.random.split(key)
            stream = _block(stream, layer) * (1 + 0.1 * number + 0.01 * count)
            for one in (noise, now):
                stream += 0.1 * jax.random.normal(one, stream.shape[-1:])
            return (stream, count + 1, key), None

        layers = {name: variables[name] for name in LAYERS}
        keys = jax.random.split(jax.random.key(1), 4)
        start = x @ variables["embed"], jnp.int32(0), jax.random.key(0)
        rows_of = layers, jnp.arange(4), keys
        (stream, count, _), _ = lax.scan(step, start, rows_of, reverse=True, unroll=2)
        return (stream + count) @ variables["head"]

    return Toy(apply, draw(11, SHAPES), (ROWS,), GROUPS, symmetric=False)


def scanned_nest() -> Toy:
    """Stages of two blocks each: both a stage and the blocks at one place may go."""
    shapes = {"embed": (4, 6), **_stacked(3, 2), "head": (6, 3)}

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        def stage(stream: jax.Array, blocks: Any) -> tuple[jax.Array, jax.Array]:
            stream, _ = lax.scan(lambda state, one: (_block(state, one), None), stream, blocks)
            return stream, stream.sum(-1)

        layers = {name: variables[name] for name in LAYERS}
        stream, sums = lax.scan(stage, x @ variables["embed"], layers)
        return stream @ variables["head"] + sums.mean(0)[:, None]

    groups = {"down[0]": 3, "down[1]": 2, "down[3]": 6, "up[3]": 8}
    return Toy(apply, draw(12, shapes), (ROWS,), groups)


def mapped_members() -> Toy:
    """An ensemble under `lax.map`: its members are channels of the mean over them."""
    shapes = {"up": (4, 4, 8), "down": (4, 8, 3)}

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        members = lax.map(lambda one: jnp.tanh(x @ one["up"]) @ one["down"], dict(variables))
        return members.mean(0)

    return Toy(apply, draw(13, shapes), (ROWS,), {"down[0]": 4, "up[2]": 8})


TOYS = (scanned_layers, scanned_nest, mapped_members)
