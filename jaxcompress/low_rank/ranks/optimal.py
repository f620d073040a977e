"""The exact optimum of a product metric, by dynamic programming over quantised cost.

Not in the paper: its coarse grid is compared with what can be had at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.accuracy import log_accuracy, log_curve
from jaxcompress.low_rank.ranks.fitting import check_reachable, largest_fitting
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["Optimum", "optimum"]

MIXES = 14


class Optimum(NamedTuple):
    """What `optimum` found.

    Attributes:
        ranks: `int[sites]`, within the budget.
        value: its log A.
        bound: no configuration within the budget has a larger log A.
    """

    ranks: np.ndarray
    value: float
    bound: float


def optimum(table: SiteTable, metric: Metric, budget: Budget, cells: int = 50_000) -> Optimum:
    """Return the ranks that maximise `sum_l log y_l(r_l)` (log A_p or log A_m) within the budget.

    Costs are counted in their greatest common divisor, which is exact: `bound == value`. Where that
    takes more than `cells`, they are counted in `cells` parts of what the budget leaves above the
    lowest ranks, rounded up, so that the budget holds: whatever costs `sites` cells less is still
    considered. `bound` then comes from the same programme with costs rounded down, and
    `bound - value` is the most that quantisation can have lost.

    Two ceilings are mixed into one, `m * a / A + (1 - m) * b / B <= 1`, with m by bisection: every
    mix bounds the optimum, and the best ranks that hold both ceilings are returned; here the gap to
    `bound` also holds what no mix reaches.

    Args:
        table: the sites.
        metric: of the sites.
        budget: fractions are of `table.total`; at most two ceilings.
        cells: resolution; time and the tightness of `bound` grow with it.

    Raises:
        ValueError: if the budget is below the smallest reachable cost or has three ceilings.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost = dense_cost(inputs=16, outputs=16)
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> table = site_table(["steep", "flat"], [cost] * 2, [steep, flat], [(16, 16)] * 2)
        >>> found = optimum(table, energy_metric(table), Budget(flops=0.7))
        >>> found.ranks.tolist(), bool(found.bound - found.value < 1e-9)
        ([4, 7], True)
    """
    metric, ceilings = metric.of(table), table.ceilings(budget)
    check_reachable(table, ceilings)
    if len(ceilings) > 2:
        raise ValueError(f"optimum holds one or two ceilings, got {sorted(ceilings)}; drop one")
    first, last = next(iter(ceilings)), list(ceilings)[-1]
    best, _ = largest_fitting(table, ceilings, metric.ranks_at)
    bound, low, high = np.inf, 0.0, 1.0
    for number in range(1 if first == last else MIXES):
        # Each ceiling alone comes first: where its optimum holds the other, that is the answer.
        mix = (1.0, 0.0)[number] if number < 2 else (low + high) / 2
        ranks, upper = _solve(table, metric, ceilings, _weights(first, last, mix), cells)
        bound = min(bound, upper)
        if table.fits(ranks, ceilings):
            best = max(best, ranks, key=lambda own: float(log_accuracy(metric, table, own)))
            if mix in (0.0, 1.0):
                break
        if number >= 2:
            is_dear = table.cost(first, ranks) > ceilings[first]
            low, high = (mix, high) if is_dear else (low, mix)
    value = float(log_accuracy(metric, table, best))
    return Optimum(best, value, max(value, bound))


def _weights(first: str, last: str, mix: float) -> dict[str, float]:
    return {kind: w for kind, w in ((last, 1 - mix), (first, mix)) if w > 0}


def _solve(
    table: SiteTable,
    metric: Metric,
    ceilings: Mapping[str, float],
    weights: Mapping[str, float],
    cells: int,
) -> tuple[np.ndarray, float]:
    """Return the best ranks of one mixed ceiling, and a bound on its optimum."""
    low, high = table.clip(table.lowest), table.clip(table.highest)
    options = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    logs = [log_curve(metric, table, site)[ranks] for site, ranks in enumerate(options)]
    costs, room = _costs(table, ceilings, weights, options)
    cell = _cell(costs, room, cells)
    up = [np.ceil(own / cell - 1e-6).astype(np.int64) for own in costs]
    down = [np.floor(own / cell + 1e-6).astype(np.int64) for own in costs]
    value, chosen = _program(logs, up, int(np.floor(room / cell + 1e-6)))
    ranks = np.asarray([own[i] for own, i in zip(options, chosen, strict=True)])
    if all((a == b).all() for a, b in zip(up, down, strict=True)):
        return ranks, value
    return ranks, _program(logs, down, int(np.ceil(room / cell - 1e-6)))[0]


def _costs(
    table: SiteTable,
    ceilings: Mapping[str, float],
    weights: Mapping[str, float],
    options: list[np.ndarray],
) -> tuple[list[np.ndarray], float]:
    """Return what each option costs above the site's lowest, and what the budget leaves for that.

    One ceiling keeps its own unit; mixed ones are in parts of theirs.
    """
    lowest = np.asarray([ranks[0] for ranks in options])
    costs, room = [np.zeros(len(ranks)) for ranks in options], 0.0
    for kind, weight in weights.items():
        factor = 1.0 if weight == 1 else weight / ceilings[kind]
        base = table.site_costs(kind, lowest)
        room += factor * (ceilings[kind] - float(table.cost(kind, lowest)))
        for site, ranks in enumerate(options):
            whole = np.tile(lowest, (len(ranks), 1))
            whole[:, site] = ranks
            costs[site] += factor * (table.site_costs(kind, whole)[:, site] - base[site])
    return costs, max(room, 0.0)


def _cell(costs: list[np.ndarray], room: float, cells: int) -> float:
    """Return the unit of cost: the greatest common divisor if it leaves few enough cells."""
    every = np.concatenate(costs)
    if (every == np.round(every)).all() and every.any():
        divisor = float(np.gcd.reduce(every.astype(np.int64)))
        if room / divisor <= cells:
            return divisor
    return max(room, 1e-9 * float(every.max()), 1e-300) / cells


def _program(
    logs: list[np.ndarray], costs: list[np.ndarray], cells: int
) -> tuple[float, np.ndarray]:
    """Return the largest sum of logs whose costs sum to at most `cells`, and each site's option.

    The first option of every site costs nothing, so that there always is an answer.
    """
    best, choices = np.zeros(cells + 1), []
    for values, prices in zip(logs, costs, strict=True):
        found = best + values[0]
        choice = np.zeros(cells + 1, np.int32)
        for i in np.flatnonzero(prices[1:] <= cells) + 1:
            price = int(prices[i])
            offer = best[: cells + 1 - price] + values[i]
            better = offer > found[price:]
            found[price:][better] = offer[better]
            choice[price:][better] = i
        best = found
        choices.append(choice)
    picked, left = [], cells
    for choice, prices in zip(reversed(choices), reversed(costs), strict=True):
        picked.append(int(choice[left]))
        left -= int(prices[picked[-1]])
    return float(best[cells]), np.asarray(picked[::-1])
