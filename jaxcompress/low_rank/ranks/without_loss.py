"""The smallest network that is measured to be as accurate as the original."""

from __future__ import annotations

from typing import NamedTuple

from jaxcompress.arguments import real, require
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.sites import Evaluate, Ranks, Search, Sites

__all__ = ["Lossless", "Trial", "lossless"]


class Trial(NamedTuple):
    """One evaluated configuration.

    Attributes:
        share: of the FLOPs of the original that it was allowed.
        ranks: by site.
        accuracy: measured.
    """

    share: float
    ranks: Ranks
    accuracy: float


class Lossless(NamedTuple):
    """What `lossless` returns.

    Attributes:
        ranks: of the cheapest trial that passed; None if none passed.
        trials: all that were evaluated, in order.
    """

    ranks: Ranks | None
    trials: tuple[Trial, ...]


def lossless(
    sites: Sites, search: Search, evaluate: Evaluate, *, baseline: float, step: float = 0.01
) -> Lossless:
    """Return the ranks of the least FLOPs whose measured accuracy is not below `baseline`.

    Bisection on the share of FLOPs, between the smallest reachable and 1, down to `step`. Accuracy
    need not fall evenly with cost: what is returned passes, and the last failure lies within `step`
    below it, but a still smaller one might pass again.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        search: any of the searches, its options bound: `functools.partial(enc_map, metric=metric)`.
        evaluate: accuracy at `{site: rank or None}`, fine-tuned first or not.
        baseline: accuracy that must be reached.
        step: resolution in shares of the FLOPs.

    Example:
        >>> import numpy as np
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs, uniform
        >>> spectrum = np.geomspace(1, 0.1, 64)
        >>> sites = sites_from_costs(["a"], [dense_cost(64, 64)], [spectrum], [(64, 64)])
        >>> evaluate = lambda ranks: 0.9 if (ranks["a"] or 64) >= 20 else 0.8
        >>> lossless(sites, uniform, evaluate, baseline=0.9).ranks
        {'a': 20}
    """
    require(baseline=real(baseline, least=0), step=real(step, above=0, most=1))
    whole = sites.total["flops"]
    least = float(sites.cost("flops", sites.clip(sites.lowest))) / whole
    trials: list[Trial] = []

    def passes(share: float) -> bool:
        ranks = search(sites, Budget(flops=share * whole))
        trials.append(Trial(share, ranks, float(evaluate(ranks))))
        return trials[-1].accuracy >= baseline

    low, high = least, 1.0
    if not passes(least):
        while high - low > step:
            middle = (low + high) / 2
            low, high = (low, middle) if passes(middle) else (middle, high)
    passed = [trial for trial in trials if trial.accuracy >= baseline]
    cheapest = min(passed, key=lambda trial: trial.share, default=None)
    return Lossless(None if cheapest is None else cheapest.ranks, tuple(trials))
