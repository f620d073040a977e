"""Ways to make the scores of different groups comparable before they are selected together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.graph import Graph

__all__ = ["channel_costs", "per_cost", "per_group"]


def per_group(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Divide each group's scores by their mean magnitude: s / mean(|s|).

    A group whose scores are all 0 stays 0; infinite scores, of channels that must stay or go, stay
    infinite and do not count in the mean.

    Raises:
        ValueError: if a score is NaN; all groups are named.

    Example:
        >>> per_group({"a": np.array([1.0, 3.0])})["a"].tolist()
        [0.5, 1.5]
    """
    wrong = [name for name, score in scores.items() if _holds_nan(score)]
    if wrong:
        raise ValueError(f"scores are numbers, but those of {wrong} hold NaN; score them again")
    return {name: score / _mean_size(score) for name, score in scores.items()}


def _holds_nan(score: Any) -> bool:
    return not isinstance(score, jax.core.Tracer) and bool(np.isnan(np.asarray(score)).any())


def _mean_size(score: Any) -> Any:
    """Return the mean magnitude of the finite scores, 1 where that is 0."""
    library = jnp if isinstance(score, jax.Array) else np
    sizes, is_finite = abs(score), library.isfinite(score)
    if not isinstance(score, jax.core.Tracer) and bool(is_finite.all()):
        mean = sizes.mean()
    else:
        mean = library.where(is_finite, sizes, 0).sum() / library.maximum(is_finite.sum(), 1)
    return mean + (mean == 0)


def channel_costs(graph: Graph, kind: str = "flops") -> dict[str, float]:
    """Return what removing one channel of each group saves, the others being whole.

    Args:
        graph: whose groups are meant.
        kind: "flops", "params" or "bytes".

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> channel_costs(graph)
        {'a[1]': 10.0}
    """
    cost, dense = graph.cost, np.asarray(graph.cost.dense, float)
    full = float(cost.of(kind))
    eye = np.eye(len(dense))
    return {name: full - float(cost.of(kind, dense - eye[i])) for i, name in enumerate(cost.names)}


def per_cost(
    graph: Graph, scores: Mapping[str, Any], kind: str = "flops", power: float = 1.0
) -> dict[str, Any]:
    """Divide scores by what a channel costs: s / c ** power.

    Args:
        graph: whose groups are scored.
        scores: `{group: float[width]}`, not negative.
        kind: "flops", "params" or "bytes".
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
    costs = channel_costs(graph, kind)
    return {name: score / costs[name] ** power for name, score in scores.items()}
