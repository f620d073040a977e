"""Every search on a graph: (graph, variables, budget) to `{site: rank or None}` for `factorize`.

Each reads the sites into a `SiteTable` and hands it to the array-level function of the same name in
`jaxcompress.low_rank.ranks.arrays`. To compare several searches, make the table once and call
those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks import arrays
from jaxcompress.low_rank.ranks.arrays import Metric, SiteTable, energy_metric
from jaxcompress.low_rank.ranks.network import convolution_sites, network_table
from jaxcompress.low_rank.truncating import truncations

__all__ = [
    "enc_inf",
    "enc_map",
    "enc_model",
    "energy_threshold",
    "evbmf_scaled",
    "optimum",
    "uniform",
]

Ranks = dict[str, int | None]
Forms = Mapping[str, str] | None
Roots = Mapping[str, Any] | None


def enc_map(
    graph: Graph,
    variables: Any,
    budget: Budget,
    forms: Forms = None,
    roots: Roots = None,
    metric: Metric | None = None,
) -> Ranks:
    """Return ranks at which all sites have the same metric value (ENC-Map).

    Args:
        graph: of a function of the variables; it may be shrunk already.
        variables: its variables.
        budget: fractions are of the graph.
        forms: "spatial", "channel" or "dense" by site; `convolution_sites(graph)` by default.
        roots: R by site, see `input_roots`; the spectra are then those of the data-aware factors.
        metric: of `measure`; the energy of the singular values by default.

    Raises:
        ValueError: if a site or form does not exist, a kernel is not finite, or the budget is below
            the smallest reachable cost.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.geomspace(1, 1e-3, 16)), "b": jnp.eye(16)}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 16)))
        >>> enc_map(graph, variables, Budget(flops=0.7), {"a": "dense", "b": "dense"})
        {'a': 4, 'b': 7}
    """
    table = network_table(graph, variables, forms, roots)
    return table.named(arrays.enc_map(table, metric or energy_metric(table), budget))


def enc_model(
    graph: Graph,
    variables: Any,
    budget: Budget,
    forms: Forms = None,
    roots: Roots = None,
    measured: Metric | None = None,
) -> Ranks:
    """Return the ranks of the best whole-network metric in ENC's candidate space (ENC-Model).

    A_p from energies alone, or A_c with `measured` too, of `measure`. The other arguments are those
    of `enc_map`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.geomspace(1, 1e-3, 16)), "b": jnp.eye(16)}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 16)))
        >>> enc_model(graph, variables, Budget(flops=0.7), {"a": "dense", "b": "dense"})
        {'a': 4, 'b': 7}
    """
    table = network_table(graph, variables, forms, roots)
    return table.named(arrays.enc_model(table, budget, energy_metric(table), measured))


def enc_inf(
    graph: Graph,
    variables: Any,
    budget: Budget,
    evaluate: Callable[[Any], float],
    forms: Forms = None,
    roots: Roots = None,
    measured: Metric | None = None,
    count: int = 20,
) -> Ranks:
    """Evaluate the best candidates of the metric and return the most accurate (ENC-Inf).

    Args:
        graph: see `enc_map`.
        variables: see `enc_map`.
        budget: see `enc_map`.
        evaluate: `evaluate(variables) -> accuracy` of the original function on variables of the
            original shapes; truncated kernels are multiplied out, so that nothing is recompiled.
        forms: see `enc_map`.
        roots: see `enc_map`.
        measured: of `measure`, for A_c; A_p without it.
        count: candidates; the paper takes 20 for ResNet-56, 40 for VGG-16.
    """
    forms = convolution_sites(graph) if forms is None else forms
    table = network_table(graph, variables, forms, roots)
    at = truncations(graph, variables, forms, roots)
    energy = energy_metric(table)
    found = arrays.enc_inf(
        table, budget, lambda ranks: evaluate(at(ranks)), energy, measured, count=count
    )
    return table.named(found.ranks)


def optimum(
    graph: Graph,
    variables: Any,
    budget: Budget,
    forms: Forms = None,
    roots: Roots = None,
    metric: Metric | None = None,
) -> Ranks:
    """Return the ranks of the largest product of metric values there is (not in the paper).

    The arguments are those of `enc_map`.
    """
    table = network_table(graph, variables, forms, roots)
    found = arrays.optimum(table, metric or energy_metric(table), budget)
    return table.named(found.ranks)


def uniform(graph: Graph, variables: Any, budget: Budget, forms: Forms = None) -> Ranks:
    """Return ranks that are the same fraction of r_max everywhere."""
    return _baseline(arrays.uniform, network_table(graph, variables, forms), budget)


def energy_threshold(
    graph: Graph, variables: Any, budget: Budget, forms: Forms = None, roots: Roots = None
) -> Ranks:
    """Return the smallest ranks that keep the same share of squared energy everywhere."""
    return _baseline(arrays.energy_threshold, network_table(graph, variables, forms, roots), budget)


def evbmf_scaled(graph: Graph, variables: Any, budget: Budget, forms: Forms = None) -> Ranks:
    """Return ranks proportional to what a variational Bayesian analysis sees."""
    return _baseline(arrays.evbmf_scaled, network_table(graph, variables, forms), budget)


def _baseline(
    search: Callable[[SiteTable, Budget], np.ndarray], table: SiteTable, budget: Budget
) -> Ranks:
    return table.named(search(table, budget))
