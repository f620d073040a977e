"""Units: the smallest steps a group's width may take, ordered by score within their group.

With `multiple_of=8` a group of 20 channels has units of 8, 8 and 4: its width may be 8, 16 or 20.
Which channels a unit holds depends on the scores; how many units of what size there are does not,
so that everything else is static under jit. Units end at the widths that `Limits` give their group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcompress.annotations import Array
from jaxcompress.graph import Cost
from jaxcompress.prune.limits import Limits

__all__ = [
    "Units",
    "make_units",
    "order_units",
    "places_of",
    "rank_channels",
    "share_places",
    "unit_scores",
]


class Units(NamedTuple):
    """All units of all scored groups, group by group, best first within a group.

    Attributes:
        group: `int[units]`, position of the group among the cost's names.
        level: `int[units]`, place within the group.
        size: `int[units]`, channels.
        end: `int[units]`, channels of its group with this unit and those before.
        forced: `bool[units]`, always kept.
        turn: `int[units]`, the order among equal scores: the group of which the smaller part is
            kept so far goes first.
        share: `float[units]`, the part of its group that is kept with this unit and those before.
        base: `int[groups]`, widths of the groups without scores, 0 for the others.
    """

    group: np.ndarray
    level: np.ndarray
    size: np.ndarray
    end: np.ndarray
    forced: np.ndarray
    turn: np.ndarray
    share: np.ndarray
    base: np.ndarray


def make_units(cost: Cost, limits: Mapping[str, Limits]) -> Units:
    """Cut the groups that have limits into units."""
    group, level, size, last, forced, part, share = [], [], [], [], [], [], []
    base = np.array(cost.dense)
    for position, name in enumerate(cost.names):
        if name not in limits:
            continue
        width, base[position] = int(base[position]), 0
        ends, least = limits[name]
        for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
            group.append(position)
            level.append(number)
            size.append(end - start)
            last.append(end)
            forced.append(start < least)
            part.append(start / width)
            share.append(end / width)
    groups, levels, sizes = (np.asarray(values, np.int64) for values in (group, level, size))
    # The places, not the parts: those of 32 bits could make two unequal parts equal.
    turn = np.argsort(np.argsort(np.asarray(part), kind="stable"))
    forces, shares = np.asarray(forced, bool), np.asarray(share, np.float64)
    return Units(groups, levels, sizes, np.asarray(last, np.int64), forces, turn, shares, base)


def order_units(units: Units, scores: Array) -> Array:
    """Return `int[units]`, the units in the order in which they are added.

    Forced units come first, whatever their scores; then by falling score, ties by `turn`.
    """
    return jnp.lexsort((jnp.asarray(units.turn), -scores, jnp.asarray(~units.forced)))


def share_places(units: Units) -> np.ndarray:
    """Return `int[units]`: 0 where forced, then from 1 by rising share, equal shares alike."""
    places = np.zeros(len(units.share), np.int64)
    places[~units.forced] = np.unique(units.share[~units.forced], return_inverse=True)[1] + 1
    return places


def rank_channels(score: Array) -> Array:
    """Return `int[width]`, each channel's place when ordered by falling score, ties by index."""
    return places_of(jnp.argsort(-score, stable=True))


def places_of(order: Array) -> Array:
    """Return the inverse of a permutation, by a sort: a scatter takes longer to compile.

    Example:
        >>> places_of(jnp.array([2, 0, 1])).tolist()
        [1, 2, 0]
    """
    return lax.sort((order, jnp.arange(len(order), dtype=order.dtype)), num_keys=1)[1]


def unit_scores(scores: Mapping[str, Array], cost: Cost, limits: Mapping[str, Limits]) -> Array:
    """Return `float[units]`, the mean score of each unit's channels; +inf where one is +inf."""
    per_group = []
    for name in cost.names:
        if name in scores:
            ends = np.asarray(limits[name].ends, np.int64)
            sizes = np.diff(ends, prepend=0)
            ordered = -jnp.sort(-jnp.asarray(scores[name]))
            if (sizes == 1).all():
                per_group.append(ordered[: len(ends)] / 1)
                continue
            unit = np.repeat(np.arange(len(ends)), sizes)
            sums = jnp.zeros(len(ends), ordered.dtype).at[unit].add(ordered[: len(unit)])
            first = ordered[ends - sizes]
            means = jnp.where(first == jnp.inf, jnp.inf, sums / sizes)
            # Equal scores may have means that differ by rounding; a group's units stay in order.
            per_group.append(lax.cummin(means))
    return jnp.concatenate(per_group)
