"""The scores that learned gates are made of, and the few numbers that are learned in them.

s_c = log F_c - alpha log c_c + a_group + u_c, F an initial score and c the cost of one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.compression.checks import check_widths
from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.prune.comparable import channel_costs

__all__ = ["Learned", "offset_scores", "log_costs", "log_scores"]


class Learned(NamedTuple):
    """What is learned of the scores.

    Attributes:
        offsets: `{group: float}`, a: how much more a whole group matters.
        alpha: `float`, the power of the cost.
        channels: `{group: float[width]}`, u: how much more a channel matters.
    """

    offsets: dict[str, jax.Array]
    alpha: jax.Array
    channels: dict[str, jax.Array]


def offset_scores(
    learned: Learned, scores: Mapping[str, jax.Array], costs: Mapping[str, float]
) -> dict[str, jax.Array]:
    """Return s from what is learned, log F and log c.

    Example:
        >>> zero, start = jnp.zeros(2), {"a": jnp.array([1.0, 2.0])}
        >>> learned = Learned({"a": jnp.float32(3)}, jnp.float32(0.5), {"a": zero})
        >>> offset_scores(learned, start, {"a": 2.0})["a"].tolist()
        [3.0, 4.0]
    """
    return {
        name: score - learned.alpha * costs[name] + learned.offsets[name] + learned.channels[name]
        for name, score in scores.items()
    }


def log_costs(graph: Graph, budget: Budget) -> dict[str, float]:
    """Return log c: what one channel of each group costs, as a fraction of the whole network.

    Several ceilings of a budget count alike.
    """
    kinds = list(budget.ceilings())
    dense = {kind: float(graph.cost.of(kind)) for kind in kinds}
    costs = {kind: channel_costs(graph, kind) for kind in kinds}
    shares = {
        name: sum(costs[kind][name] / dense[kind] for kind in kinds) / len(kinds)
        for name in graph.groups
    }
    # What saves nothing, as time may, counts as what saves least.
    least = min((share for share in shares.values() if share > 0), default=1.0)
    return {name: float(np.log(max(share, least))) for name, share in shares.items()}


def log_scores(graph: Graph, scores: Mapping[str, Array]) -> dict[str, jax.Array]:
    """Return log F, with zeros far below the smallest score that is not 0.

    Raises:
        ValueError: if a score is negative or not finite, a group unknown, or a width wrong.
    """
    check_widths(graph, scores, "scores", per_example=False)
    arrays = {name: jnp.asarray(score, jnp.result_type(float)) for name, score in scores.items()}
    if not any(isinstance(array, jax.core.Tracer) for array in arrays.values()):
        wrong = [n for n, a in arrays.items() if not (np.isfinite(a) & (np.asarray(a) >= 0)).all()]
        if wrong:
            raise ValueError(
                "learned gates start from the logarithm of scores, which must be finite and not "
                f"negative, but those of {wrong} are not; take exp of scores that are logarithms"
            )
    logarithms = _logarithms(arrays)
    return {name: logarithms[name] for name in arrays}


@jax.jit
def _logarithms(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    every = jnp.concatenate(list(arrays.values()))
    smallest = jnp.min(jnp.where(every > 0, every, jnp.inf))
    floor = jnp.where(jnp.isfinite(smallest), smallest * 1e-3, 1.0)
    return {name: jnp.log(jnp.maximum(array, floor)) for name, array in arrays.items()}
