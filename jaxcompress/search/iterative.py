"""Iterative selection: score, remove a little, score what is left, repeat.

Removal while searching is gates at 0, so shapes stay and nothing is compiled twice; shrinking is
done once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.graph import Graph
from jaxcompress.search.budget import Budget
from jaxcompress.search.select import select
from jaxcompress.transforms import ones

__all__ = ["iterative"]


def iterative(
    graph: Graph,
    score: Callable[[Mapping[str, jax.Array], int], Mapping[str, Any]],
    budget: Budget,
    *,
    rounds: int = 5,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Select in several rounds, the scores of each taken with what went before removed.

    Target of round r of R: C_r = C_0 (B / C_0)^(r / R), the same fraction of what is left each
    time. Channels once removed score -inf; at the end those that still fit may come back.

    Args:
        graph: whose groups are scored.
        score: `score(gates, round) -> {group: float[width]}`; gates `{group: float[width]}` are 0
            where a channel is removed, `round` is a number, to fold into keys. `fisher` and `meta`
            take gates and are compiled once for all rounds.
        budget: fractions are of `graph`.
        rounds: 1 is `select` of the scores at the whole network.
        **options: of `select`: multiple_of, min_width, protect.

    Returns:
        `{group: bool[width]}`; no further unit of any group would fit.

    Raises:
        ValueError: if rounds is not positive, or by `select`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> score = lambda gates, number: {"a[1]": jnp.array([1.0, 4.0, 2.0, 3.0]) * gates["a[1]"]}
        >>> iterative(graph, score, Budget(flops=0.5), rounds=2)["a[1]"]
        array([False,  True, False,  True])
    """
    if rounds < 1:
        raise ValueError(f"selection takes at least one round, but rounds={rounds}")
    limits = budget.of(graph).ceilings()
    gates = ones(graph)
    keep: dict[str, np.ndarray] = {}
    for number in range(rounds):
        found = score(gates, number)
        scores = {
            name: np.where(np.asarray(gates[name]) > 0, np.asarray(own), -np.inf)
            for name, own in found.items()
        }
        target = _target(graph, limits, (number + 1) / rounds)
        # Filling up early would bring back cheap channels just removed.
        keep = select(graph, scores, target, fill=number == rounds - 1, **options)
        kept = {name: jnp.asarray(mask, jnp.result_type(float)) for name, mask in keep.items()}
        gates = {**gates, **kept}
    return keep


def _target(graph: Graph, limits: Mapping[str, float], part: float) -> Budget:
    """Return the ceilings `part` of the way to the limits, in equal ratios."""
    targets = {}
    for kind, limit in limits.items():
        dense = float(getattr(graph.cost, kind)(graph.cost.dense))
        targets[kind] = limit if limit >= dense else dense * (limit / dense) ** part
    return Budget(**targets)
