"""The exact optimum of a product metric, by dynamic programming over quantised cost.

Not in the paper: its coarse grid is compared with what can be had at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxcompress.arguments import integer, require
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.accuracy import log_accuracy, log_curve
from jaxcompress.low_rank.ranks.fitting import largest_fitting, reachable_ceilings
from jaxcompress.low_rank.ranks.metrics import Metric, metric_or_energy
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["Optimum", "bounded_optimum", "optimum"]

MIXES = 14


class Optimum(NamedTuple):
    """What `bounded_optimum` returns.

    Attributes:
        ranks: by site, within the budget.
        value: their log A.
        bound: no configuration within the budget has a larger log A.
    """

    ranks: Ranks
    value: float
    bound: float


def optimum(
    sites: Sites, budget: Budget, *, metric: Metric | None = None, cells: int = 50_000
) -> Ranks:
    """Return the ranks of the largest product of metric values there is within the budget.

    The arguments and errors are those of `bounded_optimum`, which tells how near they are.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> costs, shapes = [dense_cost(inputs=16, outputs=16)] * 2, [(16, 16)] * 2
        >>> sites = sites_from_costs(["steep", "flat"], costs, [steep, flat], shapes)
        >>> optimum(sites, Budget(flops=0.7))
        {'steep': 4, 'flat': 7}
    """
    require(cells=integer(cells))
    return bounded_optimum(sites, budget, metric=metric, cells=cells).ranks


def bounded_optimum(
    sites: Sites, budget: Budget, *, metric: Metric | None = None, cells: int = 50_000
) -> Optimum:
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
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`; at most two ceilings.
        metric: `energy_metric` by default.
        cells: resolution; time and the tightness of `bound` grow with it.

    Raises:
        ValueError: if the budget is below the smallest reachable cost or has three ceilings, or the
            metric does not know a site.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> costs, shapes = [dense_cost(inputs=16, outputs=16)] * 2, [(16, 16)] * 2
        >>> sites = sites_from_costs(["steep", "flat"], costs, [steep, flat], shapes)
        >>> best = bounded_optimum(sites, Budget(flops=0.7))
        >>> best.ranks, bool(best.bound - best.value < 1e-9)
        ({'steep': 4, 'flat': 7}, True)
    """
    require(cells=integer(cells))
    ceilings = reachable_ceilings(sites, budget)
    if len(ceilings) > 2:
        raise ValueError(f"optimum holds one or two ceilings, got {sorted(ceilings)}; drop one")
    metric = metric_or_energy(sites, metric)
    best, bound = _maximised(sites, metric, ceilings, cells)
    value = float(log_accuracy(metric, sites, best))
    return Optimum(sites.named(best), value, max(value, bound))


def _maximised(
    sites: Sites, metric: Metric, ceilings: Mapping[str, float], cells: int
) -> tuple[np.ndarray, float]:
    """Return the best ranks, `int[sites]`, of all mixes, and the least bound."""
    first, last = next(iter(ceilings)), list(ceilings)[-1]
    best = largest_fitting(sites, ceilings, metric.ranks_at)
    bound, low, high = np.inf, 0.0, 1.0
    for number in range(1 if first == last else MIXES):
        # Each ceiling alone comes first: where its optimum holds the other, that is the answer.
        mix = (1.0, 0.0)[number] if number < 2 else (low + high) / 2
        ranks, upper = _solve(sites, metric, ceilings, _weights(first, last, mix), cells)
        bound = min(bound, upper)
        if sites.fits(ranks, ceilings):
            best = max(best, ranks, key=lambda given: float(log_accuracy(metric, sites, given)))
            if mix in (0.0, 1.0):
                break
        if number >= 2:
            is_dear = sites.cost(first, ranks) > ceilings[first]
            low, high = (mix, high) if is_dear else (low, mix)
    return best, bound


def _weights(first: str, last: str, mix: float) -> dict[str, float]:
    return {kind: w for kind, w in ((last, 1 - mix), (first, mix)) if w > 0}


def _solve(
    sites: Sites,
    metric: Metric,
    ceilings: Mapping[str, float],
    weights: Mapping[str, float],
    cells: int,
) -> tuple[np.ndarray, float]:
    """Return the best ranks of one mixed ceiling, and a bound on its optimum."""
    low, high = sites.clip(sites.lowest), sites.clip(sites.highest)
    options = [sites.options(site, *ends) for site, ends in enumerate(zip(low, high, strict=True))]
    logs = [log_curve(metric, sites, site)[ranks] for site, ranks in enumerate(options)]
    costs, room = _costs(sites, ceilings, weights, options)
    cell = _cell(costs, room, cells)
    up = [np.ceil(cost / cell - 1e-6).astype(np.int64) for cost in costs]
    down = [np.floor(cost / cell + 1e-6).astype(np.int64) for cost in costs]
    value, chosen = _program(logs, up, int(np.floor(room / cell + 1e-6)))
    ranks = np.asarray([option[i] for option, i in zip(options, chosen, strict=True)])
    if all((a == b).all() for a, b in zip(up, down, strict=True)):
        return ranks, value
    # Rounded down, no configuration looks too dear, so that this optimum is a bound.
    return ranks, _program(logs, down, int(np.ceil(room / cell - 1e-6)))[0]


def _costs(
    sites: Sites,
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
        base = sites.site_costs(kind, lowest)
        room += factor * (ceilings[kind] - float(sites.cost(kind, lowest)))
        for site, ranks in enumerate(options):
            costs[site] += factor * (sites.costs_of(site, kind, ranks) - base[site])
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
    # best[c]: of the sites so far, the largest sum of logs whose costs sum to at most c.
    best, choices = np.zeros(cells + 1), []
    for values, prices in zip(logs, costs, strict=True):
        total = best + values[0]
        choice = np.zeros(cells + 1, np.int32)
        for i in np.flatnonzero(prices[1:] <= cells) + 1:
            price = int(prices[i])
            # What option i makes of c cells: the best of the sites before at c - price cells.
            offer = best[: cells + 1 - price] + values[i]
            better = offer > total[price:]
            total[price:][better] = offer[better]
            choice[price:][better] = i
        best = total
        choices.append(choice)
    # Back from the last site: each took its choice at the cells that those after it had left.
    picked, left = [], cells
    for choice, prices in zip(reversed(choices), reversed(costs), strict=True):
        picked.append(int(choice[left]))
        left -= int(prices[picked[-1]])
    return float(best[cells]), np.asarray(picked[::-1])
