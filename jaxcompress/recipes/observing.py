"""What kernels are given, over examples that a recipe has drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import numpy as np

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.graph import Graph
from jaxcompress.low_rank.statistics import input_covariances
from jaxcompress.recipes.examples import Seen

__all__ = ["covariances_of_seen"]


def covariances_of_seen(
    graph: Graph,
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    looked: Sequence[Seen],
    forms: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Return E[x x^T] by path of the kernels, where the masks of `looked` say there is something.

    Args:
        graph: of `apply`.
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: its variables.
        looked: batches of one size.
        forms: by path of the kernels.
    """
    there = None if looked[0].mask is None else attrgetter("mask")
    run = lambda tree, batch: apply(tree, batch.inputs)  # noqa: E731
    return input_covariances(graph, run, variables, looked, forms, mask=there)
