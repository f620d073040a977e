"""Scores of residual channels: norms of kernels, of normalisation's scales, and none at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np

import jaxcompress as jc
from jaxcompress.annotations import PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = ["SCORES", "scales"]

Score = Callable[[jc.Graph, PyTree], Mapping[str, jax.Array | np.ndarray]]


def scales(graph: jc.Graph, variables: PyTree) -> dict[str, np.ndarray]:
    """Return the L2 norm of a stream's scales over all LayerNorms or GroupNorms that read it."""
    leaves, _ = flatten_with_paths(variables)
    scores = {}
    for name in jc.graph.streams(graph):
        group = graph.groups[name]
        members = [member for member in group.members if member.path.endswith("/scale")]
        rows = [np.asarray(leaves[m.path], np.float64)[m.indices].sum(1) ** 2 for m in members]
        scores[name] = np.sqrt(np.sum(rows, axis=0))
    return scores


SCORES: dict[str, Score] = {
    "producers": jc.importance.magnitude,
    "coupled": lambda graph, variables: jc.importance.magnitude(graph, variables, coupled=True),
    "scales": scales,
    "random": lambda graph, variables: jc.importance.random(graph, jax.random.key(0)),
}
