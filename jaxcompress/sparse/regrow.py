"""Regrowth: at every event, a part of the kept weights changes places with removed ones.

The number of kept weights is that of the schedule: as many grow as were dropped beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from jaxcompress.arguments import real, require
from jaxcompress.sparse.scores import Evidence

__all__ = ["Regrow", "rigl", "set_regrow"]


By: TypeAlias = Literal["gradient", "random"]


@dataclass(frozen=True)
class Regrow:
    """How many weights change places, and which grow.

    Attributes:
        fraction: of the kept weights, dropped and grown at the first event.
        by: grow where the gradient is largest, or at random.
        decays: lower the fraction by half a cosine, to 0 at the last event.
    """

    fraction: float
    by: By
    decays: bool

    def __post_init__(self) -> None:
        require(fraction=real(self.fraction, above=0, below=1))
        if self.by not in get_args(By):
            raise ValueError(f"regrowth goes by one of {get_args(By)}, but by is {self.by!r}")

    def dropped(self, kept: int, units: int, event: int, events: int) -> int:
        """Return how many units change places at an event.

        Example:
            >>> [rigl(0.5).dropped(100, 1000, event, events=4) for event in range(4)]
            [50, 43, 25, 7]
        """
        cosine = (1 + math.cos(math.pi * event / events)) / 2 if self.decays else 1.0
        return min(round(self.fraction * cosine * kept), units - kept)

    def score(self, known: Evidence) -> jax.Array:
        """Say where to grow: the largest first."""
        if self.by == "gradient":
            return jnp.abs(known.gradient)
        return jax.random.uniform(jax.random.fold_in(known.key, 1), known.weight.shape)


def rigl(fraction: float = 0.3) -> Regrow:
    """Grow the removed weights of largest gradient, ever fewer of them.

    f = fraction / 2 * (1 + cos(pi * event / events)). Weights just dropped may grow again at once,
    with their value, as in the authors' code; others grow from zero.

    Source:
        Evci et al. 2020, "Rigging the Lottery" (arXiv:1911.11134), section 3. They skip the
        optimizer's step at an event; here it takes place.

    Example:
        >>> rigl().by
        'gradient'
    """
    return Regrow(fraction, "gradient", decays=True)


def set_regrow(fraction: float = 0.3) -> Regrow:
    """Grow removed weights at random, always the same fraction.

    Source:
        Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse
        connectivity" (arXiv:1707.04780), algorithm 2, for magnitudes instead of signs.

    Example:
        >>> set_regrow().dropped(100, 1000, event=3, events=4)
        30
    """
    return Regrow(fraction, "random", decays=False)
