"""ENC-Model: the best configuration near the budget, by the metric of the whole network."""

from __future__ import annotations

from collections.abc import Sequence

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.configurations import CandidateSpace, best_configurations
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["enc_model"]

EVERY_RANK = CandidateSpace(density=1.0)


def enc_model(
    sites: Sites,
    budget: Budget,
    *,
    metric: Metric | Sequence[Metric] | None = None,
    space: CandidateSpace = EVERY_RANK,
) -> Ranks:
    """Return the ranks of the best whole-network metric in ENC's candidate space (ENC-Model).

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`.
        metric: see `best_configurations`; the energy of the singular values by default, A_p.
        space: which configurations are candidates. Steps of one rank (density 1) are the default;
            the paper's coarser ones, 0.4 for ResNet-56 and 0.096 for VGG-16, find less.

    Raises:
        ValueError: if the budget is below the smallest reachable cost, or a metric does not know a
            site.

    Source: ENC (Kim, Khan, Kyung, CVPR 2019), section 5 and supplement, section 4.

    Example:
        >>> import numpy as np
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> costs, shapes = [dense_cost(inputs=16, outputs=16)] * 2, [(16, 16)] * 2
        >>> sites = sites_from_costs(["steep", "flat"], costs, [steep, flat], shapes)
        >>> enc_model(sites, Budget(flops=0.7))
        {'steep': 4, 'flat': 7}
    """
    return best_configurations(sites, budget, count=1, metric=metric, space=space)[0]
