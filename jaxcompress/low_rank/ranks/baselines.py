"""Simple ways to choose ranks, to compare the others with."""

from __future__ import annotations

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import check_reachable, largest_fitting
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["energy_threshold", "evbmf_scaled", "uniform"]


def uniform(table: SiteTable, budget: Budget) -> np.ndarray:
    """Return ranks, `int[sites]`, that are the same fraction of r_max everywhere.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, site_table
        >>> costs = [dense_cost(16, 16), dense_cost(40, 40)]
        >>> spectra = [np.geomspace(1, 0.1, 16), np.geomspace(1, 0.1, 40)]
        >>> table = site_table(["a", "b"], costs, spectra, [(16, 16), (40, 40)])
        >>> uniform(table, Budget(flops=0.5)).tolist()
        [4, 10]
    """
    ceilings = table.ceilings(budget)
    check_reachable(table, ceilings)
    ranks, _ = largest_fitting(table, ceilings, lambda share: np.round(share * table.r_max))
    return ranks


def energy_threshold(table: SiteTable, budget: Budget) -> np.ndarray:
    """Return the smallest ranks, `int[sites]`, that keep the same share of squared energy.

    The share at rank r is the sum of the r largest squared singular values over that of all; one
    threshold holds for all sites, the largest that fits.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, site_table
        >>> spectra = [np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)]
        >>> table = site_table(["a", "b"], [dense_cost(16, 16)] * 2, spectra, [(16, 16)] * 2)
        >>> energy_threshold(table, Budget(flops=0.6)).tolist()
        [2, 7]
    """
    ceilings = table.ceilings(budget)
    check_reachable(table, ceilings)
    # The share that is lost falls by decades: 1 - share keeps its digits where share would not.
    lost = [np.cumsum((values**2)[::-1])[::-1] / (values**2).sum() for values in table.spectra]

    def ranks_at(level: float) -> np.ndarray:
        allowed = 1e-12**level
        return np.asarray([int((share > allowed).sum()) for share in lost])

    ranks, _ = largest_fitting(table, ceilings, ranks_at)
    return ranks


def evbmf_scaled(table: SiteTable, budget: Budget) -> np.ndarray:
    """Return ranks, `int[sites]`, proportional to what EVBMF sees, capped at r_max.

    `r_l = round(s * evbmf_l)` with the largest s that fits; Kim et al. 2016 (arXiv:1511.06530) take
    s = 1 without a budget.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, site_table
        >>> spectra = [np.append([9.0, 8.0], np.linspace(0.1, 0.05, 14)), np.linspace(2, 0, 16)]
        >>> table = site_table(["a", "b"], [dense_cost(16, 16)] * 2, spectra, [(16, 16)] * 2)
        >>> table.evbmf.tolist(), evbmf_scaled(table, Budget(flops=0.6)).tolist()
        ([2, 1], [6, 3])
    """
    ceilings = table.ceilings(budget)
    check_reachable(table, ceilings)
    # At this scale every site has reached r_max.
    most = float((table.r_max / table.evbmf).max()) + 1.0
    ranks, _ = largest_fitting(table, ceilings, lambda s: np.round(s * most * table.evbmf))
    return ranks
