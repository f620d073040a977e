"""Running learned gates over given batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.batches import are_stacked, count_of, one_by_one
from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.prune.importance.checks import check_classes, check_scalar
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
    *,
    steps: int | None = None,
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
        query: one batch for each step: an iterable of pytrees of arrays `[batch, ...]`, or one
            pytree of arrays `[steps, batch, ...]`.
        support: likewise, `[inner steps, batch, ...]` for each, or None for no inner steps.
        steps: how many of them; needed where only the end of `query` tells.
        compiled: makes the program of one step; on a CPU, `lambda step:
            jax.jit(fast_convolutions(step))` of `jaxcompress.training` is faster.
        **options: of `learn`.

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
    require(steps=integer(steps, optional=True))
    count = count_of(query) if steps is None else steps
    if count is None:
        raise ValueError(
            "the budget falls over all steps, so that their number is known before the first, but "
            f"query is a {type(query).__name__}, whose end alone tells; pass steps="
        )
    first, queries = one_by_one("query", query)
    if are_stacked(query):
        check_classes(query)
    check_scalar(loss, variables, first)
    inner = itertools.repeat(None) if support is None else one_by_one("support", support, 2)[1]
    pair = learn(graph, loss, budget, steps=count, **options)

    update, state, losses = compiled(pair.update), pair.init(scores), []
    # A loop of the host: see `importance.rounds`.
    for batch, inner_batches in itertools.islice(zip(queries, inner, strict=False), count):
        state, step_losses = update(state, variables, batch, inner_batches)
        losses.append(step_losses)
    if len(losses) < count:
        raise ValueError(
            f"there is a batch for each step, but of {count} only {len(losses)} came; pass more, "
            "or lower steps"
        )
    check_steps(jnp.stack(losses))
    return jax.jit(pair.scores)(state)
