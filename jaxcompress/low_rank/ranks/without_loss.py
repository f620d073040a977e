"""The smallest network that is measured to be as accurate as the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["Lossless", "Trial", "lossless"]


class Trial(NamedTuple):
    """One evaluated configuration.

    Attributes:
        share: of the FLOPs of the original that it was allowed.
        ranks: `int[sites]`.
        accuracy: measured.
    """

    share: float
    ranks: np.ndarray
    accuracy: float


class Lossless(NamedTuple):
    """What `lossless` found.

    Attributes:
        ranks: of the cheapest trial that passed, `int[sites]`; None if none passed.
        trials: all that were evaluated, in order.
    """

    ranks: np.ndarray | None
    trials: tuple[Trial, ...]


def lossless(
    table: SiteTable,
    search: Callable[[Budget], np.ndarray],
    evaluate: Callable[[dict[str, int | None]], float],
    baseline: float,
    step: float = 0.01,
) -> Lossless:
    """Find the smallest FLOPs at which the measured accuracy is not below `baseline`.

    Bisection on the share of FLOPs, between the smallest reachable and 1, down to `step`. Accuracy
    need not fall evenly with cost: what is found passes, and the last failure lies within `step`
    below it, but a still smaller one might pass again.

    Args:
        table: the sites.
        search: ranks, `int[sites]`, under a budget of FLOPs, for example `enc_map` of a metric.
        evaluate: accuracy of `{site: rank or None}`, fine-tuned first or not.
        baseline: accuracy that must be reached.
        step: resolution in shares of the FLOPs.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, site_table, uniform
        >>> spectrum = np.geomspace(1, 0.1, 64)
        >>> table = site_table(["a"], [dense_cost(64, 64)], [spectrum], [(64, 64)])
        >>> found = lossless(
        ...     table,
        ...     search=lambda budget: uniform(table, budget),
        ...     evaluate=lambda ranks: 0.9 if (ranks["a"] or 64) >= 20 else 0.8,
        ...     baseline=0.9,
        ... )
        >>> found.ranks.tolist()
        [20]
    """
    least = float(table.cost("flops", table.clip(table.lowest))) / table.total["flops"]
    trials: list[Trial] = []

    def passes(share: float) -> bool:
        ranks = search(Budget(flops=share * table.total["flops"]))
        trials.append(Trial(share, ranks, float(evaluate(table.named(ranks)))))
        return trials[-1].accuracy >= baseline

    low, high = least, 1.0
    if not passes(least):
        while high - low > step:
            middle = (low + high) / 2
            low, high = (low, middle) if passes(middle) else (middle, high)
    passed = [trial for trial in trials if trial.accuracy >= baseline]
    cheapest = min(passed, key=lambda trial: trial.share, default=None)
    return Lossless(None if cheapest is None else cheapest.ranks, tuple(trials))
