"""Ranks proportional to what stands out of noise."""

from __future__ import annotations

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import ranks_at_largest_level
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["evbmf_scaled"]


def evbmf_scaled(sites: Sites, budget: Budget) -> Ranks:
    """Return ranks proportional to what EVBMF sees, capped at r_max.

    `r_l = round(s * evbmf_l)` with the largest s that fits; Kim et al. 2016 (arXiv:1511.06530) take
    s = 1 without a budget.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> spectra = [np.append([9.0, 8.0], np.linspace(0.1, 0.05, 14)), np.linspace(2, 0, 16)]
        >>> sites = sites_from_costs(["a", "b"], [dense_cost(16, 16)] * 2, spectra, [(16, 16)] * 2)
        >>> sites.evbmf.tolist(), evbmf_scaled(sites, Budget(flops=0.6))
        ([2, 1], {'a': 6, 'b': 3})
    """
    # At this scale every site has reached r_max.
    most = float((sites.r_max / sites.evbmf).max()) + 1.0
    return ranks_at_largest_level(sites, budget, lambda share: np.round(share * most * sites.evbmf))
