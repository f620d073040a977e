"""The candidate space of ENC-Model and ENC-Inf: rank configurations near the budget.

Each site may take a few ranks around what ENC-Map gives it; sites fold into few variables
(`folds`), whose combinations near the budget are the candidates (`candidates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxcompress.arguments import integer, real, require
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.accuracy import network_accuracy, network_metrics
from jaxcompress.low_rank.ranks.candidates import candidates
from jaxcompress.low_rank.ranks.fitting import largest_fitting, reachable_ceilings
from jaxcompress.low_rank.ranks.folds import fold_sites
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["COARSE", "CandidateSpace", "best_configurations", "rank_options", "steps"]


@dataclass(frozen=True)
class CandidateSpace:
    """Which configurations are candidates.

    Attributes:
        corridor: delta_s: how far from the budget ENC-Map's ranks bound those of a site, as a part
            of the whole cost.
        tolerance: delta_m: how far below the budget a candidate may lie, as a part of it.
        density: mean of 1 / t, see `steps`; 1 tries every rank, the paper 0.4 for its ResNet-56.
    """

    corridor: float = 0.10
    tolerance: float = 0.005
    density: float = 0.4

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(
            corridor=real(self.corridor, above=0),
            tolerance=real(self.tolerance, above=0),
            density=real(self.density, above=0),
        )


COARSE = CandidateSpace()


def best_configurations(
    sites: Sites,
    budget: Budget,
    *,
    count: int,
    metric: Metric | Sequence[Metric] | None = None,
    space: CandidateSpace = COARSE,
) -> list[Ranks]:
    """Return the `count` best configurations by network metric, best first.

    R_max and R_min are ENC-Map's ranks at the budget plus and minus `corridor` of the whole cost.
    Each site may take `R_max - {0, t, 2t, ...}` down to R_min; candidates lie within `tolerance`
    below the budget.

    Differences from the paper: the band lies below the budget, not around it, and is widened where
    it holds no candidate; ENC-Map's own ranks are a candidate, too; the code's further sub-sampling
    of deep groupings is not done; where costs differ so much that enumeration would not end, the
    smallest groups are folded as well.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`; all ceilings are held, and the one that R_max
            exceeds most sets the band.
        count: how many to return at most.
        metric: `energy_metric` by default, A_p; a measured one, A_m; or (energy, measured), A_c
            (see `network_accuracy`), where the measured one sets the corridor, as for VGG-16.
        space: corridor, tolerance and density.

    Raises:
        ValueError: if the budget is below the smallest reachable cost, or a metric does not know a
            site.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost, spectrum = dense_cost(inputs=16, outputs=16), np.geomspace(1, 0.5, 16)
        >>> sites = sites_from_costs(["a", "b"], [cost] * 2, [spectrum] * 2, [(16, 16)] * 2)
        >>> best_configurations(sites, Budget(flops=0.7), count=1)
        [{'a': 5, 'b': 5}]
    """
    require(count=integer(count))
    ceilings = reachable_ceilings(sites, budget)
    metrics = network_metrics(sites, metric)
    kind, options = _around(sites, ceilings, metrics[-1], space)
    share = min(1.0, ceilings[kind] / sites.total[kind])
    folds = fold_sites(sites, options, metrics, kind, share)
    enumerated = candidates(sites, folds, ceilings, kind, space.tolerance, count)
    # Coarse steps can miss what ENC-Map finds.
    same = largest_fitting(sites, ceilings, metrics[-1].ranks_at)
    every = np.unique(np.concatenate([enumerated, same[None]]), axis=0)
    scores = network_accuracy(sites, every, metrics, kind)
    return [sites.named(every[i]) for i in np.argsort(-scores, kind="stable")[:count]]


def _around(
    sites: Sites, ceilings: Mapping[str, float], metric: Metric, space: CandidateSpace
) -> tuple[str, list[np.ndarray]]:
    """Return the kind of cost that R_max exceeds most, and each site's ranks, falling."""
    total = sites.total
    ends = [
        {k: limit + sign * space.corridor * total[k] for k, limit in ceilings.items()}
        for sign in (1, -1)
    ]
    # Where even the lowest ranks exceed the lower end of the corridor, they are what comes back.
    high, low = (largest_fitting(sites, end, metric.ranks_at) for end in ends)
    excess = {k: float(sites.cost(k, high)) - limit for k, limit in ceilings.items()}
    # No site goes further below `high` than what meets all ceilings alone; one rank more, because
    # leaving the whole kernel saves less than a full rank.
    reach = np.max([max(e, 0.0) / sites.slope[k] for k, e in excess.items()], axis=0) + 1
    multiple_of = np.broadcast_to(sites.multiple_of, len(low))
    rows = zip(low, high, steps(sites.r_max, space.density), reach, multiple_of, strict=True)
    options = [rank_options(int(a), int(b), int(t), float(x), int(m)) for a, b, t, x, m in rows]
    return max(excess, key=lambda k: excess[k] / total[k]), options


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


def rank_options(low: int, high: int, step: int, reach: float, multiple_of: int = 1) -> np.ndarray:
    """Return the ranks high - {0, t, 2t, ...} down to `low` and no further than `reach` below.

    The lowest one is always there, so that budgets between the coarse steps stay reachable. All but
    `high`, which may leave the site alone, are lowered to multiples of `multiple_of`.

    Example:
        >>> rank_options(low=3, high=10, step=3, reach=20.0).tolist()
        [10, 7, 4, 3]
        >>> rank_options(low=4, high=11, step=2, reach=20.0, multiple_of=4).tolist()
        [11, 8, 4]
    """
    last = max(low, high - int(np.ceil(reach)))
    ranks = np.append(np.arange(high, last, -step), last)
    ranks = np.where(ranks == high, high, np.maximum(ranks // multiple_of * multiple_of, low))
    return np.unique(ranks)[::-1]
