"""ENC-Map: every site at the same metric value, found in one shot."""

from __future__ import annotations

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.fitting import ranks_at_largest_level
from jaxcompress.low_rank.ranks.metrics import Metric, metric_or_energy
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["enc_map"]


def enc_map(sites: Sites, budget: Budget, *, metric: Metric | None = None) -> Ranks:
    """Return the ranks at which all sites have the same metric value y* (ENC-Map).

    y* is the largest that fits the budget, and `r_l = round(r_max,l * f_l(y*))`, f_l the PCHIP of
    r / r_max over y through the knots, clipped to [r_max / 10, r_max]; None where a site is left
    alone.

    Differences from the paper: y* is found by bisection on the cost itself instead of interpolating
    a table of 91 levels and then nudging the target until it is met within 0.1 %; the result never
    exceeds the budget; clipping counts while y* is searched, not after; a site whose factors would
    cost as much as the whole is left alone. With several ceilings one y* satisfies them all.

    Args:
        sites: of `sites_of` or `sites_from_costs`; `sites.fix` holds some of them, as the paper
            does the first convolution.
        budget: fractions are of `sites.total`.
        metric: `energy_metric` (the paper's ResNet-56) by default, or of `measure` (its VGG-16).

    Raises:
        ValueError: if the budget is below the smallest reachable cost, or the metric does not know
            a site.

    Source: ENC (Kim, Khan, Kyung, CVPR 2019), section 4 and the released enc_map.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.low_rank.ranks import sites_of
        >>> variables = {"a": jnp.diag(jnp.geomspace(1, 1e-3, 16)), "b": jnp.eye(16)}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 16)))
        >>> sites = sites_of(graph, variables, forms={"a": "dense", "b": "dense"})
        >>> enc_map(sites, Budget(flops=0.7))
        {'a': 4, 'b': 7}
    """
    return ranks_at_largest_level(sites, budget, metric_or_energy(sites, metric).ranks_at)
