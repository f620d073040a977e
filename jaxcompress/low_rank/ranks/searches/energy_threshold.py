"""The same share of squared energy everywhere: a search that knows the spectra."""

from __future__ import annotations

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import ranks_at_largest_level
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["energy_threshold"]

# Allowing this share of the energy to be lost drops no value that is more than rounding.
SMALLEST_LOSS = 1e-12


def energy_threshold(sites: Sites, budget: Budget) -> Ranks:
    """Return the smallest ranks that keep the same share of squared energy everywhere.

    The share at rank r is the sum of the r largest squared singular values over that of all; one
    threshold holds for all sites, the largest that fits.

    Args:
        sites: of `sites_of` or `sites_from_costs`.
        budget: fractions are of `sites.total`.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> spectra = [np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)]
        >>> sites = sites_from_costs(["a", "b"], [dense_cost(16, 16)] * 2, spectra, [(16, 16)] * 2)
        >>> energy_threshold(sites, Budget(flops=0.6))
        {'a': 2, 'b': 7}
    """
    # The share that is lost falls by decades: 1 - share keeps its digits where share would not.
    lost = [np.cumsum((values**2)[::-1])[::-1] / (values**2).sum() for values in sites.spectra]

    def ranks_at(level: float) -> np.ndarray:
        allowed = SMALLEST_LOSS**level
        return np.asarray([int((share > allowed).sum()) for share in lost])

    return ranks_at_largest_level(sites, budget, ranks_at)
