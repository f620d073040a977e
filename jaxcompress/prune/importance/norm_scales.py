"""Scores from the scales of normalisation: what a channel is multiplied by before it is read."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcompress.annotations import PyTree
from jaxcompress.compression.precision import widened
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.scores import Scores

__all__ = ["norm_scales"]


def norm_scales(graph: Graph, variables: PyTree) -> Scores:
    """Score a channel by the scales that multiply it, those of all normalisations together.

    s_c = sqrt(sum over scales k, entries i of channel c of gamma_ki^2), where a scale is a leaf of
    one number per channel, or per layer of a scan and channel, that the program multiplies what
    depends on the inputs by: the scale of LayerNorm, RMSNorm, GroupNorm or BatchNorm, or of a layer
    that scales what it gives. It is found in the program (`graph.scales`), not by its name; one
    that something is added to first (`1 + scale`) is not.

    Ours for residual widths. Liu et al. 2017, "Learning efficient convolutional networks through
    network slimming", section 3, take |gamma| of one BatchNorm, after training it to be sparse.

    Args:
        graph: of a function of the variables.
        variables: pytree of arrays; half precision is summed in float32.

    Returns:
        `{group: float[width]}`, raw norms: `select` divides them by the mean of each group. Groups
        that no scale multiplies, such as heads, are left out, so that `select` keeps them whole: a
        norm of kernels in their place would be another quantity under the same name. To cut them
        too, add them: `Scores({**magnitude(graph, v), **norm_scales(graph, v)}, "both",
        "raw norm")`.

    Raises:
        ValueError: if a leaf holds NaN or infinity (all are named), or no group has a scale.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"] * variables["g"] @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 5)), "g": jnp.array([-3.0, 2.0])}
        >>> norm_scales(trace(apply, variables, jnp.ones((1, 3))), variables)["a[1]"].tolist()
        [3.0, 2.0]
    """
    require_finite("variables", variables, "train or load them again")
    leaves, _ = flatten_with_paths(variables)
    scales, scores = set(graph.scales), {}
    for name, group in graph.groups.items():
        rows: list[jax.Array] = []
        for member in group.members:
            if member.path in scales and member.axis == len(graph.leaves[member.path].shape) - 1:
                squares = jnp.square(widened(leaves[member.path]))
                squares = squares.reshape(-1, squares.shape[-1]).sum(0)
                rows.append(squares[member.indices].sum(1))
        if rows:
            scores[name] = jnp.sqrt(jnp.stack(rows).sum(0))
    if not scores:
        raise ValueError(
            "a channel is scored by the scales that multiply it, but no group has any: leaves of "
            f"one number per channel in products are {list(graph.scales)}; use magnitude"
        )
    return Scores(scores, "norm scales", "raw norm")
