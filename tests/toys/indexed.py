"""Toys that take, write and shuffle by indices: what a slice covers whole may lose channels."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.toys.leaves import ROWS, WIDTHS
from tests.toys.record import Toy, draw, rows

__all__ = ["TOYS"]

SEQUENCES = rows(3, 6, 4, seed=3)
PLACES = jnp.array([2, 0, 3], jnp.int32)


def slices_of_each_example() -> Toy:
    """A window, a cache written in place and a roll, each at another place in every example."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 4), "head": (4, 2)}

    def window(hidden: jax.Array, place: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(hidden, place, 3, axis=0)

    def write(cache: jax.Array, place: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(cache, 2 * cache[:1], place, axis=0)

    def turn(hidden: jax.Array, place: jax.Array) -> jax.Array:
        return jnp.roll(hidden, place, axis=0)

    def apply(variables: Any, sequences: jax.Array, places: jax.Array) -> jax.Array:
        hidden = jax.vmap(write)(jnp.tanh(sequences @ variables["first"]), places)
        hidden = jax.vmap(window)(jnp.tanh(hidden @ variables["second"]), places)
        hidden = jax.vmap(turn)(jnp.tanh(hidden @ variables["third"]), places)
        return hidden[:, 0] @ variables["head"]

    groups = {"first[1]": 6, "second[1]": 5, "third[1]": 4}
    return Toy(apply, draw(31, shapes), (SEQUENCES, PLACES), groups)


def embedding_of_each_example() -> Toy:
    """Equinox looks tokens up one by one: under vmap each look-up is a slice of a whole row."""
    shapes = {"table": (7, 6), "second": (6, 5), "head": (5, 2)}
    module = eqx.nn.Embedding(weight=jnp.zeros((7, 6)))

    def embed(table: jax.Array, token: jax.Array) -> jax.Array:
        return eqx.tree_at(lambda layer: layer.weight, module, table)(token)

    def apply(variables: Any, tokens: jax.Array, places: jax.Array) -> jax.Array:
        hidden = jax.vmap(jax.vmap(embed, (None, 0)), (None, 0))(variables["table"], tokens)
        picked = jax.vmap(lambda row, place: row[place])(hidden, places)
        return jnp.tanh(picked @ variables["second"]) @ variables["head"]

    tokens = jnp.asarray(np.random.default_rng(4).integers(0, 7, (3, 5)), jnp.int32)
    groups = {"table[1]": 6, "second[1]": 5}
    return Toy(apply, draw(32, shapes), (tokens, PLACES), groups, frozen="run time")


def constant_shuffle() -> Toy:
    """Channels shuffled by indices that the code names: `x[:, order]`, from the end too."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 2)}
    first, second = np.array([3, 0, 4, 1, 5, 2]), np.array([-1, 0, -2, 1, 2])

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])[:, first] @ variables["second"]
        return jnp.take(jnp.tanh(hidden), second, axis=1) @ variables["third"]

    return Toy(apply, draw(33, shapes), (ROWS,), WIDTHS)


def constant_selection() -> Toy:
    """Some channels twice, some not at all, some in reverse, by indices that the code computes."""
    shapes = {"first": (4, 6), "second": (8, 5), "third": (3, 2)}
    order = np.array([4, 0, 4, 5, 1, 3, 0, 1])

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])[..., order]
        hidden = jnp.tanh(hidden @ variables["second"])
        return hidden[:, jnp.arange(3)[::-1] + 1] @ variables["third"]

    groups = {"first[1]:0": 3, "first[1]:1": 2, "second[1]": 3}
    return Toy(apply, draw(34, shapes), (ROWS,), groups)


TOYS = (slices_of_each_example, embedding_of_each_example, constant_shuffle, constant_selection)
