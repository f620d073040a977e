"""How many units of each group are kept under a budget, traced.

Units have a place in the order in which they are added. The longest prefix that fits is found by
bisection, since costs rise with every unit; all but latency, of which every prefix is tried.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import Cost
from jaxcompress.graph.budget import Ceilings
from jaxcompress.per_device import per_device
from jaxcompress.prune.units import Units, order_units, places_of, share_places

__all__ = ["greedy_levels", "uniform_levels"]


def greedy_levels(cost: Cost, units: Units, scores: Array, budget: Ceilings, fill: bool) -> Array:
    """Return `int[groups]`, how many units are kept: the best that fit, and with `fill` more.

    Args:
        cost: of the graph.
        units: of its groups.
        scores: `float[units]`.
        budget: absolute.
        fill: go on after the first unit that does not fit.
    """
    order = order_units(units, scores)
    place = places_of(order)
    count = _longest_prefix(cost, units, place, budget, int(units.forced.sum()), len(order))
    group, level, end = (jnp.asarray(x) for x in (units.group, units.level, units.end))
    kept_units = jnp.zeros(len(cost.names), order.dtype).at[group].add(place < count)
    if not fill:
        return kept_units

    def add(state: tuple[Any, Any], unit: Any) -> tuple[tuple[Any, Any], None]:
        levels, current = state
        # A unit brings those before it in its group: time, alone of the costs, may fall by that.
        wider = current.at[group[unit]].set(end[unit])
        is_wider = levels[group[unit]] <= level[unit]
        accept = is_wider & (place[unit] >= count) & _fits(cost, wider, budget)
        levels = levels.at[group[unit]].set(jnp.where(accept, level[unit] + 1, levels[group[unit]]))
        return (levels, jnp.where(accept, wider, current)), None

    (levels, _), _ = lax.scan(add, (kept_units, _widths(units, place, count)), order)
    return levels


def uniform_levels(cost: Cost, units: Units, budget: Ceilings) -> Array:
    """Return `int[groups]`, how many units are kept: the same share of all, the largest that fits.

    Args:
        cost: of the graph.
        units: of its groups.
        budget: absolute.
    """
    # Places say which shares are equal: those units come together or not at all.
    place = share_places(units)
    count = _longest_prefix(cost, units, jnp.asarray(place), budget, 1, int(place.max()) + 1)
    return jnp.zeros(len(cost.names), int).at[jnp.asarray(units.group)].add(place < count)


def _longest_prefix(
    cost: Cost, units: Units, place: Array, budget: Ceilings, least: int, most: int
) -> Array:
    """Return the largest count in least..most at which the units of places below it fit."""
    if "latency" in budget.ceilings():
        counts = jnp.arange(least, most + 1)
        fit = lax.map(lambda count: _fits(cost, _widths(units, place, count), budget), counts)
        return jnp.where(fit, counts, least).max()

    def bisect(_: int, bounds: tuple[Any, Any]) -> tuple[PyTree, PyTree]:
        low, high = bounds
        middle = (low + high + 1) // 2
        fit = _fits(cost, _widths(units, place, middle), budget)
        return jnp.where(fit, middle, low), jnp.where(fit, high, middle - 1)

    rounds = int(np.ceil(np.log2(most + 1))) + 1
    limits = list(budget.ceilings().values())
    bounds = per_device((jnp.asarray(least), jnp.asarray(most)), None, like=(place, limits))
    count, _ = lax.fori_loop(0, rounds, bisect, bounds)
    return count


def _widths(units: Units, place: Array, count: Array) -> Array:
    """Return `int[groups]`, the widths with the units of places below the count."""
    kept = jnp.where(place < count, jnp.asarray(units.size), 0)
    return jnp.asarray(units.base).at[jnp.asarray(units.group)].add(kept)


def _fits(cost: Cost, widths: Array, budget: Ceilings) -> Array:
    widths = widths.astype(jnp.result_type(float))
    checks = [cost.of(kind, widths) <= limit for kind, limit in budget.ceilings().items()]
    return jnp.all(jnp.stack(checks))
