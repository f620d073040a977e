"""The measured metric: one site truncated at a time, and the network evaluated.

With `truncations` a truncated kernel is multiplied out to its original shape, so that all sites x
knots variants are variables of one and the same compiled function, and none costs more than the
original. What comes before the truncated site is computed again each time: sharing it needs one
program per site, and on a CPU compiling those takes longer than it saves.
"""

from __future__ import annotations

import numpy as np

from jaxcompress.low_rank.ranks.metrics import Metric, measured_metric
from jaxcompress.low_rank.ranks.sites import Evaluate, Sites

__all__ = ["measure"]


def measure(sites: Sites, evaluate: Evaluate) -> Metric:
    """Return ENC's measurement metric: the value with one site truncated over that of none.

    Args:
        sites: whose `knots` are tried, each site alone.
        evaluate: value at `{site: rank}`, 0 to 1, sites that are not named left alone: the accuracy
            on images taken from the training data (ENC), or `exp(-KL)` from the original's
            predictions, whose product over sites adds up divergences. BatchNorm in evaluation mode.
            `truncations`, with the roots of `sites_of`, makes variables of ranks; jit the function
            of them.

    Raises:
        ValueError: if a value is not in [0, 1], or that of the whole network is 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.low_rank import truncations
        >>> from jaxcompress.low_rank.ranks import sites_of
        >>> variables = {"a": jnp.diag(jnp.array([4.0, 2.0, 1.0, 1.0]))}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 4)))
        >>> sites = sites_of(graph, variables, forms={"a": "dense"})
        >>> at = truncations(graph, variables, sites.forms)
        >>> metric = measure(sites, lambda ranks: float(jnp.trace(at(ranks)["a"])) / 8)
        >>> metric.curves[0].round(2).tolist()
        [0.0, 0.5, 1.0]
    """
    full = float(evaluate({}))
    values = []
    for name, knots in zip(sites.names, sites.knots, strict=True):
        # Knots repeat where a site has few ranks.
        once = {rank: float(evaluate({name: rank})) for rank in np.unique(knots).tolist()}
        values.append(np.asarray([once[rank] for rank in knots.tolist()]))
    return measured_metric(sites, values, full)
