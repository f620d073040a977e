"""Running learned gates over given batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.compiled import entry
from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.prune.importance.checks import check_batches, check_classes, check_scalar
from jaxcompress.prune.importance.inner_steps import check_steps
from jaxcompress.prune.learned.learner import learn

__all__ = ["learn_gates"]


def learn_gates(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    scores: Mapping[str, Array],
    budget: Budget,
    query: Batch,
    support: Batch = None,
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = jax.jit,
    **options: Json,
) -> dict[str, jax.Array]:
    """Run `learn` over given batches, one step each, compiled once.

    Args:
        graph: of a function of the variables.
        loss: see `learn`.
        variables: pytree of arrays.
        scores: where to start, `{group: float[width]}`, not negative; masked `fisher` is best.
            Groups without scores stay whole.
        budget: see `learn`.
        query: pytree of arrays `[steps, batch, ...]`.
        support: pytree of arrays `[steps, inner steps, batch, ...]`, or None for no inner steps.
        compiled: makes the program of one step; on a CPU, `lambda step:
            jax.jit(fast_convolutions(step))` of `jaxcompress.training` is faster.
        **options: of `learn`, but `steps`.

    Returns:
        `{group: float[width]}` for `select`, at the same budget.

    Raises:
        ValueError: if a score is negative or not finite, a group unknown, the loss no scalar, a
            batch empty, or a query batch of one class only (by its leaf `label`).
        FloatingPointError: if a loss is not finite (its "episode" is the step of learning).

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> scores, query = {"a[1]": jnp.arange(4.0)}, jnp.ones((6, 5, 3))
        >>> learned = learn_gates(graph, loss, variables, scores, Budget(flops=0.5), query)
        >>> learned["a[1]"].shape
        (4,)
    """
    check_batches({"query": query}, leading=2)
    if support is not None:
        check_batches({"support": support}, leading=3)
    check_classes(query)
    check_scalar(loss, variables, entry(query, 0))
    steps = len(jax.tree.leaves(query)[0])
    pair = learn(graph, loss, budget, steps=steps, **options)

    update, state, losses = compiled(pair.update), pair.init(scores), []
    # A loop of the host: see `importance.rounds`.
    for step in range(steps):
        batch, inner = entry((query, support), step)
        state, step_losses = update(state, variables, batch, inner)
        losses.append(step_losses)
    check_steps(jnp.stack(losses))
    return jax.jit(pair.scores)(state)
