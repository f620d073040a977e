"""Expected error of the network's outputs as a metric: not in the paper, and the best found here.

A truncated site errs by e_l(r), the sum of its squared singular values from r on: with data-aware
roots the squared error of its output. `output_covariances` tells how far that moves the network's
outputs: d_l for each unit of it, or, where output roots weigh the spectrum, 1. Small errors of
several sites add up, so that `optimum` of this metric minimises the expected squared error of the
outputs, sum_l d_l e_l(r_l), under the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from jaxcompress.annotations import Batch, PyTree
from jaxcompress.graph import Graph
from jaxcompress.low_rank.ranks.metrics import Metric, curve_metric
from jaxcompress.low_rank.ranks.sites import Sites
from jaxcompress.low_rank.statistics.gradients import output_covariances, output_sensitivities

__all__ = ["error_metric", "sensitivity"]

# Metrics below 1e-12 count as equal; the worst site at rank 0 stays above.
LARGEST = 20.0


def sensitivity(
    sites: Sites,
    graph: Graph,
    apply: Callable[..., jax.Array],
    variables: PyTree,
    batches: Iterable[Batch],
    *,
    key: jax.Array,
) -> Metric:
    """Return the metric `y_l(r) = exp(-c d_l e_l(r))`, c one constant for all sites.

    Args:
        sites: of `sites_of`, without output roots, which would count the outputs twice; without
            input roots all inputs count as independent and of one variance.
        graph: that the sites are of.
        apply: `(variables, inputs) -> outputs [examples, ...]`; logits are best centred, because
            adding one number to all of an example's changes nothing.
        variables: its variables.
        batches: inputs, training images without labels; see `output_covariances`.
        key: of random signs.

    Raises:
        ValueError: if a site does not exist, or there is no batch.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.low_rank.ranks import sites_of
        >>> variables = {"a": jnp.diag(jnp.array([2.0, 1.0, 1.0, 1.0])), "b": jnp.eye(4)}
        >>> apply = lambda v, x: x @ v["a"] + 3 * (x @ v["b"])
        >>> graph, x = trace(apply, variables, jnp.ones((8, 4))), jnp.ones((8, 4))
        >>> sites = sites_of(graph, variables, forms={"a": "dense", "b": "dense"})
        >>> metric = sensitivity(sites, graph, apply, variables, [x], key=jax.random.key(0))
        >>> [(-np.log(curve)).round(2).tolist() for curve in metric.curves]
        [[3.89, 1.67, 1.11], [20.0, 15.0, 10.0]]
    """
    covariances = output_covariances(graph, apply, variables, batches, sites.names, key=key)
    return error_metric(sites, output_sensitivities(covariances))


def error_metric(sites: Sites, weights: Mapping[str, float] | None = None) -> Metric:
    """Return `y_l(r) = exp(-c d_l e_l(r))` from spectra and the weights d_l by site.

    Args:
        sites: all of them.
        weights: d_l; 1 by default, for sites whose spectra have input and output roots.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost = dense_cost(inputs=4, outputs=4)
        >>> sites = sites_from_costs(["a"], [cost], [np.array([2.0, 1.0, 1.0, 1.0])], [(4, 4)])
        >>> (-np.log(error_metric(sites, {"a": 1.0}).curves[0])).round(2).tolist()
        [20.0, 8.57, 5.71]
    """
    errors = []
    for name, values, r_max in zip(sites.names, sites.spectra, sites.r_max, strict=True):
        tail = np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)
        errors.append((1.0 if weights is None else weights[name]) * tail[: r_max + 1])
    largest = max((float(error[0]) for error in errors), default=1.0) or 1.0
    return curve_metric(sites, [np.exp(-error * (LARGEST / largest)) for error in errors])
