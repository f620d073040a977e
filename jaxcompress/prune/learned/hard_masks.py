"""Straight-through gates: hard masks at the exact budget with a useful gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.graph import Cost
from jaxcompress.graph.budget import AtMost, Ceilings
from jaxcompress.prune.comparable import comparable_scores
from jaxcompress.prune.selecting import threshold

__all__ = ["straight_through"]


def straight_through(
    cost: Cost,
    scores: Mapping[str, Array],
    budget: Ceilings,
    part: PyTree = 1.0,
    temperature: float = 0.5,
) -> dict[str, jax.Array]:
    """Mask to the budget in the forward pass; backward as if gates were soft and their cost fixed.

    Forward g_c is 1 for the channels that `threshold` keeps, else 0. Backward it stands for
    sigmoid((s_c - tau) / T), tau the highest score removed, and d tau / d s_c = w_c / sum(w) with
    w_c = c_c sigmoid'((s_c - tau) / T): then the soft cost sum(c_c g_c) is constant to first order,
    so that the loss cannot fall by keeping more, and adding a constant to all s changes nothing.

    Args:
        cost: of the graph.
        scores: `{group: float[width]}`; groups without scores stay whole. Raw `Scores` are made
            comparable.
        budget: absolute (see `Budget.of`).
        part: in [0, 1], may be traced: the target is at this part of the way from the whole
            network to the budget.
        temperature: T.

    Returns:
        Gates `{group: float[width]}` of 0 and 1.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> cost = trace(apply, variables, jnp.ones((1, 3))).cost
        >>> from jaxcompress.graph.budget import Budget
        >>> gate = lambda s: straight_through(cost, {"a[1]": s}, Budget(flops=20))["a[1]"]
        >>> gate(jnp.arange(4.0)).tolist()
        [0.0, 0.0, 1.0, 1.0]
        >>> round(float(jax.grad(lambda s: gate(s).sum())(jnp.arange(4.0)).sum()), 6)
        0.0
    """
    require(temperature=real(temperature, above=0))
    limits = _targets(cost, budget, part)
    scores = comparable_scores(cost, scores, tuple(limits))
    # One order for all that is laid end to end: dicts that JAX hands back have their keys sorted.
    scores = {name: scores[name] for name in cost.names if name in scores}
    fixed = lax.stop_gradient(dict(scores))
    # Nested masks move little from step to step; the last channels that would still fit do not.
    hard = threshold(cost, fixed, AtMost(limits), fill=False)
    flat, removed = _end_to_end(fixed, scores), 1 - _end_to_end(hard, scores)
    tau = jnp.max(jnp.where(removed > 0, flat, flat.min()))
    slope = jax.nn.sigmoid((flat - tau) / temperature)
    weight = slope * (1 - slope) * _channel_costs(cost, scores, limits, hard)
    weight = weight / jnp.maximum(weight.sum(), jnp.finfo(weight.dtype).tiny)
    moving = tau + weight @ (_end_to_end(scores, scores) - flat)
    soft = {name: jax.nn.sigmoid((score - moving) / temperature) for name, score in scores.items()}
    # The bracket is exactly 0, whatever the rounding.
    return {name: hard[name] + (soft[name] - lax.stop_gradient(soft[name])) for name in scores}


def _end_to_end(arrays: Mapping[str, Array], names: Iterable[str]) -> jax.Array:
    return jnp.concatenate([arrays[name] for name in names])


def _targets(cost: Cost, budget: Ceilings, part: PyTree) -> dict[str, Array]:
    targets = {}
    for kind, limit in budget.ceilings().items():
        dense = jnp.maximum(float(cost.of(kind)), limit)
        targets[kind] = dense + (limit - dense) * part
    return targets


def _channel_costs(
    cost: Cost, scores: Mapping[str, Array], limits: Mapping[str, Array], hard: Mapping[str, Array]
) -> jax.Array:
    """Return `float[channels]`, what each channel costs beside those kept, relative to limits."""
    dense = jnp.asarray(cost.dense, jnp.result_type(float))
    kept = [hard[n].sum() if n in hard else d for n, d in zip(cost.names, dense, strict=True)]

    def relative(widths: Array) -> Array:
        return sum(cost.of(kind, widths) / limit for kind, limit in limits.items())

    # Time, alone of the costs, may fall as channels come: such a channel costs nothing.
    slopes = jnp.maximum(jax.grad(relative)(jnp.stack(kept)), 0)
    costs = [jnp.broadcast_to(slopes[cost.names.index(n)], jnp.shape(s)) for n, s in scores.items()]
    return lax.stop_gradient(jnp.concatenate(costs))
