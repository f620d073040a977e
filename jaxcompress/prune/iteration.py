"""Iterative selection: score, remove a little, score what is left, repeat.

Removal while searching is gates at 0, so shapes stay and nothing is compiled twice; shrinking is
done once, at the end. The order of removal is a score as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Json
from jaxcompress.arguments import integer, require
from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.prune.comparable import comparable_scores
from jaxcompress.prune.gating import ones
from jaxcompress.prune.selecting import select

__all__ = ["iterative", "iterative_scores"]


def iterative(
    graph: Graph,
    score: Callable[[Mapping[str, jax.Array], int], Mapping[str, Any]],
    budget: Budget,
    *,
    rounds: int = 5,
    **options: Json,
) -> dict[str, np.ndarray]:
    """Select in several rounds, the scores of each taken with what went before removed.

    Target of round r of R: C_r = C_0 (B / C_0)^(r / R), the same fraction of what is left each
    time. Channels once removed score -inf; at the end those that still fit may come back.

    Args:
        graph: whose groups are scored.
        score: `score(gates, round) -> {group: float[width]}`; gates `{group: float[width]}` are 0
            where a channel is removed, `round` is a number, to fold into keys. `fisher` and `meta`
            take gates and are compiled once for all rounds. Raw `Scores` are made comparable.
        budget: fractions are of `graph`.
        rounds: 1 is `select` of the scores at the whole network.
        **options: of `select`: multiple_of, min_width, protect, min_share, max_share, uniform.

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
    require(rounds=integer(rounds))
    return _run(graph, score, budget, rounds, options)[0]


def iterative_scores(
    graph: Graph,
    score: Callable[[Mapping[str, jax.Array], int], Mapping[str, Any]],
    budget: Budget,
    *,
    rounds: int = 5,
    **options: Json,
) -> dict[str, np.ndarray]:
    """Score channels by the order in which `iterative` removes them.

    s_c = f_rc d_r: the score f of the last round r that channel c was in, times a factor d that
    puts all that go in round r below all that stay in it, nested from the last round to the first.
    Channels that came back at the end count as when they went. For scores that are not negative,
    such as those of `fisher` over a power of the cost; `learn` can start from them, too.

    Args:
        graph: see `iterative`.
        score: see `iterative`; not negative.
        budget: where the removal ends.
        rounds: see `iterative`.
        **options: of `select`: multiple_of, min_width, protect, min_share, max_share, uniform.

    Returns:
        `{group: float[width]}`: larger for all that stay than for all that went, and for all that
        went later than for all that went earlier.

    Raises:
        ValueError: if a score is negative, or by `iterative`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> score = lambda gates, number: {"a[1]": jnp.array([1.0, 4.0, 2.0, 3.0]) + 5 * number}
        >>> iterative_scores(graph, score, Budget(flops=0.5), rounds=2)["a[1]"].argsort().tolist()
        [0, 2, 3, 1]
    """
    require(rounds=integer(rounds))
    _, history = _run(graph, score, budget, rounds, options)
    wrong = sorted(
        {n for measured, _, _ in history for n, values in measured.items() if (values < 0).any()}
    )
    if wrong:
        raise ValueError(
            f"an order of removal scales scores, which must not be negative, but those of {wrong} "
            "are; take exp of scores that are logarithms"
        )
    scores = {name: np.array(values, float) for name, values in history[-1].scores.items()}
    for measured, before, after in reversed(history):
        gone = {name: before[name] & ~after[name] for name in measured}
        highest = max(values[gone[name]].max(initial=0) for name, values in measured.items())
        lowest = min(values[after[name]].min(initial=np.inf) for name, values in scores.items())
        factor = 0.5 * lowest / highest if highest >= lowest else 1.0
        for name, values in measured.items():
            scores[name][gone[name]] = factor * values[gone[name]]
    return scores


class _Round(NamedTuple):
    """What was seen in one round.

    Attributes:
        scores: `{group: float[width]}`.
        before: `{group: bool[width]}`, who was in it.
        after: `{group: bool[width]}`, who stayed.
    """

    scores: dict[str, np.ndarray]
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


def _run(
    graph: Graph,
    score: Callable[[Mapping[str, jax.Array], int], Mapping[str, Any]],
    budget: Budget,
    rounds: int,
    options: Mapping[str, Json],
) -> tuple[dict[str, np.ndarray], list[_Round]]:
    """Return the keep and all rounds."""
    limits = budget.of(graph).ceilings()
    gates, history = ones(graph), []
    keep: dict[str, np.ndarray] = {}
    for number in range(rounds):
        raw = comparable_scores(graph.cost, score(gates, number), tuple(limits))
        measured = {name: np.asarray(values) for name, values in raw.items()}
        before = {name: np.asarray(gates[name]) > 0 for name in measured}
        scores = {
            name: np.where(before[name], values, -np.inf) for name, values in measured.items()
        }
        target = _target(graph, limits, (number + 1) / rounds)
        # Filling up early would bring back cheap channels just removed.
        keep = select(graph, scores, target, fill=number == rounds - 1, **options)
        kept = {name: jnp.asarray(mask, jnp.result_type(float)) for name, mask in keep.items()}
        gates = {**gates, **kept}
        history.append(_Round(measured, before, keep))
    return keep, history


def _target(graph: Graph, limits: Mapping[str, float], part: float) -> Budget:
    """Return the ceilings `part` of the way to the limits, in equal ratios."""
    targets = {}
    for kind, limit in limits.items():
        dense = float(graph.cost.of(kind))
        targets[kind] = limit if limit >= dense else dense * (limit / dense) ** part
    return Budget(**targets)
