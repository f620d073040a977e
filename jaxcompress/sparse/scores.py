"""Scores of single weights: pure functions of what is known about one leaf; the lowest go first.

They are float32 at least, whatever the weights are: products of half precision vanish or overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "Evidence",
    "Score",
    "gradient_times_weight",
    "magnitude",
    "movement",
    "movement_step",
    "random",
]


class Evidence(NamedTuple):
    """What is known about one leaf when its masks are chosen.

    Attributes:
        weight: the leaf.
        gradient: of the loss, of the leaf's shape.
        movement: the sum of -gradient * weight over all steps so far; a scalar 0 unless the score
            asks for it.
        key: random key of this leaf at this event.
    """

    weight: jax.Array
    gradient: jax.Array
    movement: jax.Array
    key: jax.Array


class Score(NamedTuple):
    """A way of scoring.

    Attributes:
        of: `Evidence -> float[leaf's shape]`.
        needs_gradient: whether it reads `gradient` or `movement`.
        accumulates: whether it reads `movement`, which costs memory of the size of the leaves.
    """

    of: Callable[[Evidence], jax.Array]
    needs_gradient: bool = False
    accumulates: bool = False


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _magnitude(known: Evidence) -> jax.Array:
    return jnp.abs(_wide(known.weight))


def _gradient_times_weight(known: Evidence) -> jax.Array:
    return jnp.abs(_wide(known.gradient) * _wide(known.weight))


def _random(known: Evidence) -> jax.Array:
    return jax.random.uniform(known.key, known.weight.shape)


def _movement(known: Evidence) -> jax.Array:
    return _wide(known.movement)


def movement_step(gradient: jax.Array, weight: jax.Array) -> jax.Array:
    """Return what one step adds to the movement of a leaf."""
    return -_wide(gradient) * _wide(weight)


magnitude = Score(_magnitude)
"""|w| (Han et al. 2015, arXiv:1506.02626)."""

gradient_times_weight = Score(_gradient_times_weight, needs_gradient=True)
"""|w dL/dw|: the change of the loss to first order (SNIP, Lee et al. 2019, arXiv:1810.02340)."""

random = Score(_random)
"""Uniform in [0, 1): the baseline of every comparison."""

movement = Score(_movement, needs_gradient=True, accumulates=True)
"""-sum over steps of w dL/dw: weights that move away from zero (Sanh et al. 2020, arXiv:2005.07683,
equation 2; theirs trains scores apart from weights and may bring removed ones back)."""
