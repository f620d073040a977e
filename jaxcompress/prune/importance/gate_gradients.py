"""First-order Taylor importance: how much the loss would change if a gate went from 1 to 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.backend import compiled
from jaxcompress.batches import one_by_one
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.per_device import AxisName, slope
from jaxcompress.prune.gating import gated, ones
from jaxcompress.prune.importance.checks import check_gradients, check_scalar
from jaxcompress.prune.scores import Scores

__all__ = ["taylor"]


def taylor(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    batches: Any,
    *,
    axis_name: AxisName = None,
) -> Scores:
    """Score a channel by the first-order change of the loss without it, batch by batch.

    s_c = mean over batches b of |dL_b / dg_c at g = 1|, since L(g_c = 0) - L(g_c = 1) is
    -dL/dg_c to first order (Molchanov et al. 2017, "Pruning convolutional neural networks for
    resource efficient inference", eq. 6, summed over positions before the absolute value). The
    gate stands where the channel is consumed, after BatchNorm and nonlinearity, as in EKG.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`, in evaluation or training mode.
        variables: pytree of arrays.
        batches: an iterable of batches, pytrees of arrays `[batch, ...]`, or one pytree of arrays
            `[batches, batch, ...]`.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is
            split; see `jaxcompress.per_device`.

    Returns:
        `{group: float[width]}`, raw gradients: `select` divides them by what a channel costs.
        Groups that a custom derivative sums over are left out, since gates have no gradient there
        (`graph.graded` names the others): `select` keeps them whole.

    Raises:
        ValueError: if a batch is empty, or the loss not a scalar.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> taylor(graph, loss, variables, jnp.ones((2, 5, 3)))["a[1]"].shape
        (4,)
    """
    require_finite("variables", variables, "train or load them again")
    first, every_batch = one_by_one("batches", batches)
    check_scalar(loss, variables, first)
    gradient = compiled(_gradient(graph, loss, axis_name))
    every = ones(graph)
    start = {name: every[name] for name in graph.graded}
    total: dict[str, jax.Array] = {name: jnp.zeros_like(gate) for name, gate in start.items()}
    # A Python loop over one compiled step: inside a scan, XLA's CPU backend runs the gradient of a
    # convolution tens of times slower.
    count = 0
    for batch in every_batch:
        total = _added(total, gradient(start, variables, batch))
        count += 1
    means = {name: total[name] / count for name in start}
    check_gradients(means)
    return Scores(means, "taylor", "raw gradient", power=1.0)


@jax.jit
def _added(total: dict[str, jax.Array], gradients: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: value + jnp.abs(gradients[name]) for name, value in total.items()}


def _gradient(
    graph: Graph, loss: Callable[[PyTree, Batch], jax.Array], axis_name: AxisName
) -> Function:
    """Make the gradient by gates of the mean loss of one batch, on all devices."""
    gated_loss = gated(graph, loss)
    both = slope(lambda gates, *rest: (gated_loss(rest[0], gates, rest[1]), None), axis_name)
    return lambda gates, variables, batch: both(gates, variables, batch)[1]
