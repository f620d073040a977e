"""The candidate space of ENC-Model and ENC-Inf: rank configurations near the budget.

Sites of equal cost fold into one variable, the sum of their ranks; for every sum only the best
split is kept. The few variables that remain are enumerated; combinations near the budget are the
candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.low_rank.ranks.accuracy import combine_logs, log_curve
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["Fold", "candidates", "fold_sites", "rank_options", "steps"]

# Partial combinations held at once; more variables are folded together until they fit.
MOST_COMBINATIONS = 2_000_000
MOST_VALUES = 2_000


class Fold(NamedTuple):
    """Some sites as one variable: for each of its values the ranks, costs and metrics.

    Attributes:
        sites: positions in the table, `int[members]`.
        ranks: `int[values, members]`.
        costs: by kind, `float[values]`.
        logs: log A of these sites, one row per metric, `float[metrics, values]`.
        unit: cost between neighbouring values.
    """

    sites: np.ndarray
    ranks: np.ndarray
    costs: Mapping[str, np.ndarray]
    logs: np.ndarray
    unit: float


def steps(r_max: np.ndarray, density: float) -> np.ndarray:
    """Return the rank steps t_l, `int[sites]`: the coarsest whose mean of 1 / t reaches `density`.

    `t_l = max(1, round(a * max(1, round(r_max,l / 100))))`, the scale a lowered by 1 % at a time.

    Example:
        >>> steps(np.array([24, 400, 800]), density=0.3).tolist()
        [1, 6, 12]
    """
    base = np.maximum(1, np.round(0.01 * r_max))
    scale = 2.0 / density
    while True:
        step = np.maximum(1, np.round(scale * base)).astype(np.int64)
        if (1 / step).mean() >= density or (step == 1).all():
            return step
        scale *= 0.99


def rank_options(low: int, high: int, step: int, reach: float) -> np.ndarray:
    """Return the ranks high - {0, t, 2t, ...} down to `low` and no further than `reach` below.

    The lowest one is always there, so that budgets between the coarse steps stay reachable.

    Example:
        >>> rank_options(low=3, high=10, step=3, reach=20.0).tolist()
        [10, 7, 4, 3]
    """
    last = max(low, high - int(np.ceil(reach)))
    return np.unique(np.append(np.arange(high, last, -step), last))[::-1]


def fold_sites(
    table: SiteTable,
    options: Sequence[np.ndarray],
    metrics: Sequence[Metric],
    kind: str,
    share: float,
) -> list[Fold]:
    """Fold sites of equal cost per rank, then the smallest folds until few are left.

    The paper unfolds groups by enumeration in levels, keeping one split per value; merging two at a
    time keeps the same best split where the metric is a product. With A_c the best of each merge is
    kept, as the paper does per level, at the budget's `share` of the cost.

    Args:
        table: the sites.
        options: ranks that each site may take, falling.
        metrics: energy, measured, or both in this order.
        kind: of the cost that decides what is equal.
        share: C / C_whole in A_c.
    """
    folds: dict[float, Fold] = {}
    for site, ranks in enumerate(options):
        single = _single(table, site, ranks, metrics, kind)
        slope = float(table.slope[kind][site])
        folds[slope] = _merge(folds[slope], single, kind, share) if slope in folds else single
    left = list(folds.values())
    while len(left) > 1 and _combinations(left) > MOST_COMBINATIONS:
        first, second, *others = sorted(left, key=lambda fold: len(fold.ranks))
        left = [_merge(first, second, kind, share), *others]
    return left


def candidates(
    table: SiteTable,
    folds: Sequence[Fold],
    ceilings: Mapping[str, float],
    kind: str,
    tolerance: float,
    count: int,
) -> np.ndarray:
    """Return the best `count` configurations, `int[candidates, sites]`, best first.

    Args:
        table: the sites.
        folds: that together hold every site once.
        ceilings: absolute, by kind; none is exceeded.
        kind: of the cost that must also lie at most `tolerance` of its ceiling below it.
        tolerance: relative; doubled until there is a candidate.
        count: how many to return at most.
    """
    # The fold of most values comes last: its values are looked up, not enumerated.
    ordered = sorted(folds, key=lambda fold: len(fold.ranks))
    partial = _Partial.start(table, ceilings, len(ordered[0].logs))
    for fold in ordered[:-1]:
        partial = partial.extend(fold)
    while True:
        codes, values, scores = _close(partial, ordered[-1], table, ceilings, kind, tolerance)
        if len(scores) or tolerance > 1:
            break
        tolerance *= 2
    best = np.argsort(-scores, kind="stable")[:count]
    return _decode(ordered, codes[best], values[best], len(table.names))


class _Partial(NamedTuple):
    """All combinations of the folds so far: mixed-radix code, cost by kind, and log A."""

    codes: np.ndarray
    costs: Mapping[str, np.ndarray]
    logs: np.ndarray

    @staticmethod
    def start(table: SiteTable, kinds: Mapping[str, float], metrics: int) -> _Partial:
        rest = {kind: np.asarray([table.rest.get(kind, 0.0)]) for kind in kinds}
        return _Partial(np.zeros(1, np.int64), rest, np.zeros((metrics, 1)))

    def extend(self, fold: Fold) -> _Partial:
        count = len(fold.ranks)
        codes = (self.codes[:, None] * count + np.arange(count)).ravel()
        costs = {k: (v[:, None] + fold.costs[k]).ravel() for k, v in self.costs.items()}
        logs = (self.logs[:, :, None] + fold.logs[:, None, :]).reshape(len(self.logs), -1)
        return _Partial(codes, costs, logs)


def _single(
    table: SiteTable, site: int, ranks: np.ndarray, metrics: Sequence[Metric], kind: str
) -> Fold:
    whole = np.tile(table.lowest, (len(ranks), 1))
    whole[:, site] = ranks
    costs = {k: table.site_costs(k, whole)[:, site] for k in table.slope}
    logs = np.stack([log_curve(metric, table, site)[ranks] for metric in metrics])
    unit = float(np.diff(np.unique(costs[kind])).max()) if len(ranks) > 1 else 0.0
    return Fold(np.asarray([site]), ranks[:, None], costs, logs, unit)


def _merge(a: Fold, b: Fold, kind: str, share: float) -> Fold:
    """Return the best pair of values for every sum of costs."""
    first, second = (i.ravel() for i in np.indices((len(a.ranks), len(b.ranks))))
    costs = {k: a.costs[k][first] + b.costs[k][second] for k in a.costs}
    logs = a.logs[:, first] + b.logs[:, second]
    # Sums within one step of the finer count as equal; their exact costs are kept. The cheapest is
    # alone in its bin, so that every reachable budget stays reachable.
    finer = min(a.unit, b.unit) or max(a.unit, b.unit)
    unit = max(finer, float(np.ptp(costs[kind])) / MOST_VALUES)
    key = np.ceil((costs[kind] - costs[kind].min()) / (unit or 1.0) - 1e-6).astype(np.int64)
    order = np.lexsort((costs[kind], -combine_logs(logs, share), key))
    _, start = np.unique(key[order], return_index=True)
    kept = order[start]
    ranks = np.concatenate([a.ranks[first[kept]], b.ranks[second[kept]]], axis=1)
    sites = np.concatenate([a.sites, b.sites])
    return Fold(sites, ranks, {k: v[kept] for k, v in costs.items()}, logs[:, kept], unit)


def _combinations(folds: Sequence[Fold]) -> float:
    counts = sorted(len(fold.ranks) for fold in folds)
    return float(np.prod(np.asarray(counts[:-1], np.float64)))


def _close(
    partial: _Partial,
    fold: Fold,
    table: SiteTable,
    ceilings: Mapping[str, float],
    kind: str,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return code, value of the last fold, and score of all combinations within the band."""
    order = np.argsort(fold.costs[kind], kind="stable")
    costs, top = fold.costs[kind][order], ceilings[kind] + 1e-9 * table.total[kind]
    start = np.searchsorted(costs, top - tolerance * ceilings[kind] - partial.costs[kind], "left")
    stop = np.searchsorted(costs, top - partial.costs[kind], "right")
    counts = np.maximum(stop - start, 0)
    rows = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = order[start[rows] + offset]
    total = {k: v[rows] + fold.costs[k][values] for k, v in partial.costs.items()}
    fit = np.ones(len(rows), bool)
    for other, limit in ceilings.items():
        fit &= total[other] <= limit + 1e-9 * table.total[other]
    rows, values = rows[fit], values[fit]
    share = total[kind][fit] / table.total[kind]
    scores = combine_logs(partial.logs[:, rows] + fold.logs[:, values], share)
    return partial.codes[rows], values, scores


def _decode(
    ordered: Sequence[Fold], codes: np.ndarray, values: np.ndarray, sites: int
) -> np.ndarray:
    ranks = np.zeros((len(codes), sites), np.int64)
    ranks[:, ordered[-1].sites] = ordered[-1].ranks[values]
    for fold in reversed(ordered[:-1]):
        codes, digit = np.divmod(codes, len(fold.ranks))
        ranks[:, fold.sites] = fold.ranks[digit]
    return ranks
