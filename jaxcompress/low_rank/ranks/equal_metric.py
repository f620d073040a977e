"""ENC-Map: every site at the same metric value, found in one shot."""

from __future__ import annotations

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import check_reachable, largest_fitting
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["enc_map"]


def enc_map(table: SiteTable, metric: Metric, budget: Budget) -> np.ndarray:
    """Return the ranks, `int[sites]`, that give all sites the same metric value y*.

    y* is the largest that fits the budget, and `r_l = round(r_max,l * f_l(y*))`, f_l the PCHIP of
    r / r_max over y through the knots, clipped to [r_max / 10, r_max]. `table.named(ranks)` gives
    them by site, None where a site is left alone.

    Differences from the paper: y* is found by bisection on the cost itself instead of interpolating
    a table of 91 levels and then nudging the target until it is met within 0.1 %; the result never
    exceeds the budget; clipping counts while y* is searched, not after; a site whose factors would
    cost as much as the whole is left alone. With several ceilings one y* satisfies them all.

    Args:
        table: the sites; `table.fix` holds some of them, as the paper does the first convolution.
        metric: energy (the paper's ResNet-56) or measured (its VGG-16).
        budget: fractions are of `table.total`.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.

    Source: ENC (Kim, Khan, Kyung, CVPR 2019), section 4 and the released enc_map.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost = dense_cost(inputs=16, outputs=16)
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> table = site_table(["steep", "flat"], [cost] * 2, [steep, flat], [(16, 16)] * 2)
        >>> table.named(enc_map(table, energy_metric(table), Budget(flops=0.7)))
        {'steep': 4, 'flat': 7}
    """
    ceilings = table.ceilings(budget)
    check_reachable(table, ceilings)
    ranks, _ = largest_fitting(table, ceilings, metric.of(table).ranks_at)
    return ranks
