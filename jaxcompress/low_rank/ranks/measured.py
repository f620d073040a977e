"""The measured metric on a real network: one site truncated at a time, and the network evaluated.

A truncated kernel is multiplied out to its original shape, so that all sites x knots variants are
variables of one and the same compiled function, and none costs more than the original. What comes
before the truncated site is computed again each time: sharing it needs one program per site, and on
a CPU compiling those takes longer than it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxcompress.graph import Graph
from jaxcompress.low_rank.ranks.metrics import Metric, measured_metric
from jaxcompress.low_rank.ranks.network import convolution_sites, network_table
from jaxcompress.low_rank.ranks.table import SiteTable
from jaxcompress.low_rank.truncating import truncations

__all__ = ["knot_values", "measure"]

Evaluate = Callable[[Any], float]
"""`evaluate(variables) -> value` in [0, 1] of the original function on these variables."""


def measure(
    graph: Graph,
    variables: Any,
    evaluate: Evaluate,
    forms: Mapping[str, str] | None = None,
    roots: Mapping[str, Any] | None = None,
) -> Metric:
    """Return ENC's measurement metric: the value with one site truncated over that of none.

    Args:
        graph: of a function of the variables.
        variables: its variables.
        evaluate: value of the function on variables of their shapes, 0 to 1: its accuracy on images
            taken from the training data (ENC), or `exp(-KL)` from the original's predictions, whose
            product over sites adds up divergences. BatchNorm in evaluation mode. Jit it outside.
        forms: "spatial", "channel" or "dense" by site; `convolution_sites(graph)` by default.
        roots: R by site, see `input_roots`: truncate as data-aware factors do.

    Raises:
        ValueError: if a site or form does not exist, a kernel is not finite, or a value is not in
            [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.array([4.0, 2.0, 1.0, 1.0]))}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 4)))
        >>> evaluate = lambda own: float(jnp.trace(own["a"])) / 8
        >>> measure(graph, variables, evaluate, {"a": "dense"}).curves[0].round(2).tolist()
        [0.0, 0.5, 1.0]
    """
    forms = convolution_sites(graph) if forms is None else forms
    table = network_table(graph, variables, forms, roots)
    values = knot_values(table, truncations(graph, variables, forms, roots), evaluate)
    return measured_metric(table, values, full=float(evaluate(variables)))


def knot_values(
    table: SiteTable, at: Callable[[Mapping[str, Any]], Any], evaluate: Evaluate
) -> list[np.ndarray]:
    """Return `float[knots]` per site: the value with that site alone truncated to each knot.

    Args:
        table: of the sites.
        at: of `truncations`.
        evaluate: see `measure`.
    """
    values = []
    for name, knots in zip(table.names, table.knots, strict=True):
        once = {int(rank): float(evaluate(at({name: int(rank)}))) for rank in np.unique(knots)}
        values.append(np.asarray([once[int(rank)] for rank in knots]))
    return values
