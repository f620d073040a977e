"""The same fraction of r_max everywhere: the simplest search, to compare the others with."""

from __future__ import annotations

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import ranks_at_largest_level
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["uniform"]


def uniform(sites: Sites, budget: Budget) -> Ranks:
    """Return ranks that are the same fraction of r_max everywhere, `r_l = round(s * r_max,l)`.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> costs = [dense_cost(16, 16), dense_cost(40, 40)]
        >>> spectra = [np.geomspace(1, 0.1, 16), np.geomspace(1, 0.1, 40)]
        >>> sites = sites_from_costs(["a", "b"], costs, spectra, [(16, 16), (40, 40)])
        >>> uniform(sites, Budget(flops=0.5))
        {'a': 4, 'b': 10}
    """
    return ranks_at_largest_level(sites, budget, lambda share: np.round(share * sites.r_max))
