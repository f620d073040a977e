"""ENC-Inf: the most accurate of the best configurations, by running the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.arguments import integer, require
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.configurations import COARSE, CandidateSpace, best_configurations
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.sites import Evaluate, Ranks, Sites

__all__ = ["enc_inf"]


def enc_inf(
    sites: Sites,
    budget: Budget,
    *,
    evaluate: Evaluate,
    metric: Metric | Sequence[Metric] | None = None,
    count: int = 20,
    space: CandidateSpace = COARSE,
) -> Ranks:
    """Evaluate the `count` best configurations of the metric and return the most accurate.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`.
        evaluate: accuracy at `{site: rank or None}`, on images taken from the training data; called
            once per candidate, best metric first. `truncations`, with the roots of `sites_of`,
            makes variables of ranks.
        metric: see `best_configurations`; the energy of the singular values by default, A_p.
        count: 20 for the paper's ResNet-56, 40 for its VGG-16.
        space: which configurations are candidates; coarse steps make them differ. The paper's
            ResNet-56 takes a density of 0.4, its VGG-16 0.165.

    Raises:
        ValueError: if the budget is below the smallest reachable cost, or a metric does not know a
            site.

    Source: ENC (Kim, Khan, Kyung, CVPR 2019), section 5.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost, spectrum = dense_cost(inputs=16, outputs=16), np.geomspace(1, 0.5, 16)
        >>> sites = sites_from_costs(["a", "b"], [cost] * 2, [spectrum] * 2, [(16, 16)] * 2)
        >>> enc_inf(sites, Budget(flops=0.7), evaluate=lambda ranks: ranks["a"] / 10)
        {'a': 6, 'b': 4}
    """
    require(count=integer(count))
    configurations = best_configurations(sites, budget, count=count, metric=metric, space=space)
    return configurations[int(np.argmax([float(evaluate(ranks)) for ranks in configurations]))]
