"""Many sites as few variables, so that configurations of a whole network can be enumerated.

Sites of equal cost fold into one variable, the sum of their ranks; for every sum only the best
split is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.low_rank.ranks.accuracy import combine_logs, log_curve
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.sites import Sites

__all__ = ["Fold", "fold_sites"]

# Partial combinations held at once; more variables are folded together until they fit.
MOST_COMBINATIONS = 2_000_000
MOST_VALUES = 2_000


class Fold(NamedTuple):
    """Some sites as one variable: for each of its values the ranks, costs and metrics.

    Attributes:
        sites: positions among the sites, `int[members]`.
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


def fold_sites(
    sites: Sites,
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
        sites: all of them.
        options: ranks that each site may take, falling.
        metrics: energy, measured, or both in this order.
        kind: of the cost that decides what is equal.
        share: C / C_whole in A_c.
    """
    folds: dict[float, Fold] = {}
    for site, ranks in enumerate(options):
        single = _single(sites, site, ranks, metrics, kind)
        slope = float(sites.slope[kind][site])
        folds[slope] = _merge(folds[slope], single, kind, share) if slope in folds else single
    left = list(folds.values())
    # The smallest two: their merge has the fewest pairs to look at, and loses the least.
    while len(left) > 1 and _combinations(left) > MOST_COMBINATIONS:
        first, second, *others = sorted(left, key=lambda fold: len(fold.ranks))
        left = [_merge(first, second, kind, share), *others]
    return left


def _single(
    sites: Sites, site: int, ranks: np.ndarray, metrics: Sequence[Metric], kind: str
) -> Fold:
    costs = {k: sites.costs_of(site, k, ranks) for k in sites.slope}
    logs = np.stack([log_curve(metric, sites, site)[ranks] for metric in metrics])
    # The largest difference is that of a full step; the last option, or leaving a site alone, may
    # lie closer.
    unit = float(np.diff(np.unique(costs[kind])).max()) if len(ranks) > 1 else 0.0
    return Fold(np.asarray([site]), ranks[:, None], costs, logs, unit)


def _merge(a: Fold, b: Fold, kind: str, share: float) -> Fold:
    """Return the best pair of values for every sum of costs."""
    # All pairs side by side: position p is value first[p] of a with value second[p] of b.
    first, second = (i.ravel() for i in np.indices((len(a.ranks), len(b.ranks))))
    costs = {k: a.costs[k][first] + b.costs[k][second] for k in a.costs}
    logs = a.logs[:, first] + b.logs[:, second]
    # Sums within one step of the finer count as equal; their exact costs are kept. The cheapest is
    # alone in its bin, so that every reachable budget stays reachable: only cost 0 above the
    # cheapest rounds up to bin 0, and 1e-6 keeps rounding from opening a bin of its own.
    finer = min(a.unit, b.unit) or max(a.unit, b.unit)
    unit = max(finer, float(np.ptp(costs[kind])) / MOST_VALUES)
    key = np.ceil((costs[kind] - costs[kind].min()) / (unit or 1.0) - 1e-6).astype(np.int64)
    # `lexsort` sorts by its last key first: bins, in each the best metric, of equal ones the
    # cheapest. The first position of every bin, which `unique` returns, is then its best pair.
    order = np.lexsort((costs[kind], -combine_logs(logs, share), key))
    _, start = np.unique(key[order], return_index=True)
    kept = order[start]
    ranks = np.concatenate([a.ranks[first[kept]], b.ranks[second[kept]]], axis=1)
    sites = np.concatenate([a.sites, b.sites])
    return Fold(sites, ranks, {k: v[kept] for k, v in costs.items()}, logs[:, kept], unit)


def _combinations(folds: Sequence[Fold]) -> float:
    # The largest fold does not count: its values are looked up, not enumerated.
    counts = sorted(len(fold.ranks) for fold in folds)
    return float(np.prod(np.asarray(counts[:-1], np.float64)))
