"""Ways to make the scores of different groups comparable before they are selected together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import real, require
from jaxcompress.graph import Cost, Graph
from jaxcompress.prune.scores import Scores

__all__ = ["channel_costs", "comparable_scores", "per_cost", "per_group"]


def per_group(scores: Mapping[str, Array]) -> Scores:
    """Divide each group's scores by their mean magnitude: s / mean(|s|).

    A group whose scores are all 0 stays 0; infinite scores, of channels that must stay or go, stay
    infinite and count as 0 in the mean.

    Raises:
        ValueError: if a score is NaN; all groups are named.

    Example:
        >>> per_group({"a": np.array([1.0, 3.0])})["a"].tolist()
        [0.5, 1.5]
    """
    wrong = [name for name, score in scores.items() if _holds_nan(score)]
    if wrong:
        raise ValueError(f"scores are numbers, but those of {wrong} hold NaN; score them again")
    means = {name: abs(_finite_part(score)).mean() for name, score in scores.items()}
    arrays = {name: score / (means[name] + (means[name] == 0)) for name, score in scores.items()}
    return Scores(arrays, _source(scores, "per group"))


def _holds_nan(score: Array) -> bool:
    return not isinstance(score, jax.core.Tracer) and bool(np.isnan(np.asarray(score)).any())


def _finite_part(score: Array) -> Array:
    library = _library(score)
    return library.where(library.isfinite(score), score, 0)


def _library(score: Array) -> Any:
    return jnp if isinstance(score, jax.Array) else np


def _source(scores: Mapping[str, Array], change: str) -> str:
    return f"{scores.source} {change}" if isinstance(scores, Scores) else change


def channel_costs(graph: Graph, kind: str = "flops") -> dict[str, float]:
    """Return what removing one channel of each group saves, the others being whole.

    Args:
        graph: whose groups are meant.
        kind: "flops", "params", "bytes" or "latency"; of the last, whose steps are many channels
            wide, the mean over all channels but one.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> channel_costs(graph)
        {'a[1]': 10.0}
    """
    return _costs(graph.cost, kind)


def _costs(cost: Cost, kind: str) -> dict[str, float]:
    dense = np.asarray(cost.dense, float)
    full = float(cost.of(kind))
    fewer = np.maximum(dense - 1, 1) if kind == "latency" else np.ones_like(dense)
    less = dense - np.diag(fewer)
    saved = [full - float(cost.of(kind, widths)) for widths in less]
    return dict(zip(cost.names, np.divide(saved, fewer).tolist(), strict=True))


def per_cost(
    graph: Graph, scores: Mapping[str, Array], kind: str = "flops", power: float = 1.0
) -> Scores:
    """Divide scores by what a channel costs: s / c ** power.

    Args:
        graph: whose groups are scored.
        scores: `{group: float[width]}`, not negative.
        kind: as in `channel_costs`.
        power: 0 ignores the cost, 1 compares importance per unit of cost.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> per_cost(graph, {"a[1]": np.ones(4)}, kind="params")["a[1]"].tolist()
        [0.2, 0.2, 0.2, 0.2]
    """
    require(power=real(power))
    costs = channel_costs(graph, kind)
    return Scores(_divided(scores, costs, power), _source(scores, f"per {kind} ** {power:g}"))


def _divided(
    scores: Mapping[str, Array], costs: Mapping[str, float], power: float
) -> dict[str, Array]:
    """Return s / c ** power; +inf where a channel costs nothing: its going saves nothing."""
    return {
        name: score / costs[name] ** power
        if costs[name] > 0
        else _library(score).full_like(score, np.inf)
        for name, score in scores.items()
    }


def comparable_scores(
    cost: Cost, scores: Mapping[str, Array], kinds: Collection[str] = ("flops",)
) -> Mapping[str, Array]:
    """Make raw `Scores` of unlike groups comparable, by what was measured to be best for them.

    Raw gradients are divided by c ** power, c what one channel costs of the kinds that a budget
    limits: masked `fisher` by power 1.5, `taylor` and `meta` by 1. Of several kinds, c is the mean
    of their fractions of the whole network. Raw norms are divided by their group's mean. Whatever
    else, a bare dict or comparable `Scores`, is returned as it is: the caller vouches for it.

    Measured on ResNet-20 and ResNet-56 by `benchmarks.importance`.

    Args:
        cost: of the graph.
        scores: `{group: float[width]}`.
        kinds: as in `channel_costs`; a channel that costs nothing of them scores +inf.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> cost = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3))).cost
        >>> raw = Scores({"a[1]": np.array([10.0, 20.0, 0.0, 5.0])}, "taylor", "raw gradient", 1.0)
        >>> comparable_scores(cost, raw)["a[1]"].tolist()
        [1.0, 2.0, 0.0, 0.5]
        >>> comparable_scores(cost, {"a[1]": 3.0})
        {'a[1]': 3.0}
    """
    if not isinstance(scores, Scores) or scores.unit == "comparable":
        return scores
    if scores.unit == "raw norm":
        return per_group(scores)
    costs = _shared_costs(cost, kinds)
    arrays = _divided(scores, costs, scores.power)
    return Scores(arrays, _source(scores, f"per {' and '.join(kinds)} ** {scores.power:g}"))


def _shared_costs(cost: Cost, kinds: Collection[str]) -> dict[str, float]:
    """Return the cost of a channel: of one kind as it is, of several as a mean of fractions."""
    every = {kind: _costs(cost, kind) for kind in kinds}
    if len(every) == 1:
        return next(iter(every.values()))
    whole = {kind: float(cost.of(kind)) for kind in kinds}
    return {
        name: sum(costs[name] / whole[kind] for kind, costs in every.items()) / len(every)
        for name in cost.names
    }
