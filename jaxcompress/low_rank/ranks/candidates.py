"""Enumeration of few variables: the best of all combinations whose cost is near a ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.low_rank.ranks.accuracy import combine_logs
from jaxcompress.low_rank.ranks.folds import Fold
from jaxcompress.low_rank.ranks.sites import Sites

__all__ = ["candidates"]


def candidates(
    sites: Sites,
    folds: Sequence[Fold],
    ceilings: Mapping[str, float],
    kind: str,
    tolerance: float,
    count: int,
) -> np.ndarray:
    """Return the best `count` configurations, `int[candidates, sites]`, best first.

    Args:
        sites: all of them.
        folds: that together hold every site once.
        ceilings: absolute, by kind; none is exceeded.
        kind: of the cost that must also lie at most `tolerance` of its ceiling below it.
        tolerance: relative; doubled until there is a candidate.
        count: how many to return at most.
    """
    # The fold of most values comes last: its values are looked up, not enumerated.
    ordered = sorted(folds, key=lambda fold: len(fold.ranks))
    *enumerated, last = ordered
    partial = _Partial.start(sites, ceilings, len(last.logs))
    for fold in enumerated:
        partial = partial.extend(fold)
    while True:
        codes, values, scores = _close(partial, last, sites, ceilings, kind, tolerance)
        # A tolerance above 1 holds every cost, so that a wider band would find no more.
        if len(scores) or tolerance > 1:
            break
        tolerance *= 2
    best = np.argsort(-scores, kind="stable")[:count]
    return _decode(ordered, codes[best], values[best], len(sites.names))


class _Partial(NamedTuple):
    """All combinations of the folds so far: mixed-radix code, cost by kind, and log A.

    A code is `(value_1 * count_2 + value_2) * count_3 + ...`: one integer per combination instead
    of a row of values, of which millions would not fit in memory.
    """

    codes: np.ndarray
    costs: Mapping[str, np.ndarray]
    logs: np.ndarray

    @staticmethod
    def start(sites: Sites, kinds: Mapping[str, float], metrics: int) -> _Partial:
        rest = {kind: np.asarray([sites.rest.get(kind, 0.0)]) for kind in kinds}
        return _Partial(np.zeros(1, np.int64), rest, np.zeros((metrics, 1)))

    def extend(self, fold: Fold) -> _Partial:
        # Rows are the combinations so far, columns the fold's values; raveled alike in all three,
        # so that one position means one combination.
        count = len(fold.ranks)
        codes = (self.codes[:, None] * count + np.arange(count)).ravel()
        costs = {k: (v[:, None] + fold.costs[k]).ravel() for k, v in self.costs.items()}
        logs = (self.logs[:, :, None] + fold.logs[:, None, :]).reshape(len(self.logs), -1)
        return _Partial(codes, costs, logs)


def _close(
    partial: _Partial,
    fold: Fold,
    sites: Sites,
    ceilings: Mapping[str, float],
    kind: str,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return code, value of the last fold, and score of all combinations within the band."""
    order = np.argsort(fold.costs[kind], kind="stable")
    rows, places = _within(partial, fold.costs[kind][order], sites, ceilings, kind, tolerance)
    values = order[places]
    # The band is of one kind; what exceeds another ceiling goes now.
    total = {k: v[rows] + fold.costs[k][values] for k, v in partial.costs.items()}
    fit = np.ones(len(rows), bool)
    for other, limit in ceilings.items():
        fit &= total[other] <= limit + 1e-9 * sites.total[other]
    rows, values = rows[fit], values[fit]
    share = total[kind][fit] / sites.total[kind]
    scores = combine_logs(partial.logs[:, rows] + fold.logs[:, values], share)
    return partial.codes[rows], values, scores


def _within(
    partial: _Partial,
    costs: np.ndarray,
    sites: Sites,
    ceilings: Mapping[str, float],
    kind: str,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs within the band: places in `partial`, and in the rising `costs`."""
    top = ceilings[kind] + 1e-9 * sites.total[kind]
    # Costs rise, so that what brings one partial combination into the band is one run of them.
    start = np.searchsorted(costs, top - tolerance * ceilings[kind] - partial.costs[kind], "left")
    stop = np.searchsorted(costs, top - partial.costs[kind], "right")
    # All runs at once, without a loop over partial combinations: each is repeated as often as its
    # run is long, and `offset` counts from 0 in each: its place less where its run began.
    counts = np.maximum(stop - start, 0)
    rows = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, start[rows] + offset


def _decode(
    ordered: Sequence[Fold], codes: np.ndarray, values: np.ndarray, sites: int
) -> np.ndarray:
    """Return the ranks, `int[candidates, sites]`, of codes and values of the last fold."""
    ranks = np.zeros((len(codes), sites), np.int64)
    ranks[:, ordered[-1].sites] = ordered[-1].ranks[values]
    # The fold that was added last is the lowest digit.
    for fold in reversed(ordered[:-1]):
        codes, digit = np.divmod(codes, len(fold.ranks))
        ranks[:, fold.sites] = fold.ranks[digit]
    return ranks
