"""`rotate`: turn a stream so that its channels are sorted by what its readers are given of each.

A stream that only passes through norms, sums and kernels may be multiplied by an orthogonal Q: what
makes it by Q, what reads it by Q^T, and no output changes. Turned to its principal directions, the
last channels carry least, and `shrink` may cut them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.compression.checks import check_groups
from jaxcompress.compression.record import Compression
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph, trace
from jaxcompress.graph.program import label_program, read
from jaxcompress.prune.rotation.planning import Plan, described, plan
from jaxcompress.prune.rotation.principal import (
    Weights,
    first_rotation,
    principal_directions,
    stream_covariance,
)
from jaxcompress.prune.rotation.rotated import compression_of
from jaxcompress.prune.rotation.turning import turned_leaves
from jaxcompress.prune.scores import Scores

__all__ = ["Rotated", "rotate"]


class Rotated(NamedTuple):
    """A network whose stream was turned.

    Attributes:
        compression: the rotation, to be chained in front of others.
        graph: of the rotated function, with `means="all"`: what is cut was nearly 0, so that a norm
            goes on to divide by the number that it did.
        group: the stream's name in that graph.
        scores: of the stream alone: the share of each channel, in what the readers are given.
        matrices: the scales that became matrices, by path, and why no kernel takes them.
    """

    compression: Compression
    graph: Graph
    group: str
    scores: Scores
    matrices: dict[str, str]


def rotate(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    *,
    group: str | None = None,
    weights: Weights | None = None,
) -> Rotated:
    """Turn a residual stream to its principal directions, without changing the function.

    Every leaf along the stream x is multiplied by Q, the eigenvectors, largest eigenvalue first, of
    C = mean over readers of E[x x^T] / E[|x|^2],
    where a reader is what kernels are given of the stream, behind its norm. Norms commute with Q,
    |x Q| = |x|, once their scales are 1: a scale goes into the kernels behind it, W -> diag(s) W,
    its shift into their biases, b -> b + shift W. Where no kernel takes it (it is tied, read
    elsewhere, or followed by an addition) the scale becomes the matrix Q^T diag(s) Q, which costs
    width^2. Where channels are summed up or all are given the same, as by LayerNorm's mean, Q's
    last column is 1/sqrt(width), and functions are rewritten to use it.

    Args:
        graph: of `apply`.
        apply: evaluation function `(variables, inputs) -> outputs`.
        variables: its variables, arrays.
        batches: inputs that differ in their number of examples at most; read once. Products are
            summed in float32.
        group: the stream; the graph's only one by default.
        weights: `weights(batch) -> [examples, positions]`, how much each position counts: 0 for
            padding. Readers without such positions count all.

    Returns:
        The rotation, the graph to select and shrink from, and the scores to select by. Its function
        is the function itself where only RMSNorm without matrices reads the stream. Made again from
        its `spec` it rewrites functions, but turns no variables. Optimizer state of what turned
        starts again from zero. A training function may drop channels at random; it drops turned
        ones then.

    Raises:
        ValueError: if the group does not exist, or there is more than one stream and none is named;
            if the stream meets what no rotation passes, by line of code; if there is no batch, or
            variables or covariance are not finite.

    Source:
        Ashkboos et al. 2024, "SliceGPT" (arXiv:2401.15024), sections 3.2 to 3.4. There, each block
        has a rotation of its own and the stream a matrix between two; here one serves the whole
        stream, and it needs none. Its eigenvalues become scores.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     stream = x @ variables["in"]
        ...     read = stream / jnp.sqrt(jnp.mean(stream**2, -1, keepdims=True) + 1e-6)
        ...     stream = stream + jnp.tanh(read @ variables["up"]) @ variables["down"]
        ...     return stream @ variables["out"]
        >>> shapes = {"in": (3, 4), "up": (4, 8), "down": (8, 4), "out": (4, 2)}
        >>> keys = dict(zip(shapes, jax.random.split(jax.random.key(0), 4)))
        >>> variables = {name: jax.random.normal(keys[name], shapes[name]) for name in shapes}
        >>> x = jax.random.normal(jax.random.key(1), (16, 3))
        >>> rotated = rotate(trace(apply, variables, x), apply, variables, [x])
        >>> turned = rotated.compression.variables(variables)
        >>> bool(jnp.allclose(apply(turned, x), apply(variables, x), atol=1e-4))
        True
        >>> [round(float(score), 2) for score in rotated.scores[rotated.group]][-1] < 0.1
        True
    """
    group = _stream(graph, group)
    require_finite("variables", variables, "train or load them again")
    first, every = _opened(batches)
    labelled = label_program(read(apply, variables, (first,)), discover=False)
    made, width = plan(graph, labelled, group), graph.groups[group].width
    spec = {
        "kind": "rotate",
        "group": group,
        "width": width,
        "ones": made.has_ones,
        "leaves": described(labelled, made),
    }
    start = first_rotation(width, made.has_ones)
    before = _compression(spec, made, start)
    turned, function = before.variables(variables), before.function(apply)
    covariance = stream_covariance(function, turned, every, made.readers, width, weights)
    directions, shares = principal_directions(covariance, made.has_ones)
    compression = _compression(spec, made, start @ directions)
    after = trace(function, turned, first, batch_axis=graph.batch_axis, means="all")
    name = _renamed(after, made)
    scores = Scores({name: shares.astype(np.float32)}, "eigenvalues of the stream")
    return Rotated(compression, after, name, scores, made.matrices)


def _stream(graph: Graph, group: str | None) -> str:
    if group is not None:
        check_groups(graph, {group: None}, "group")
        return group
    if len(graph.streams) != 1:
        listed = ", ".join(graph.streams) or "none"
        raise ValueError(
            f"without a group the graph's only stream is rotated, but its streams are {listed}; "
            "name one, group="
        )
    return graph.streams[0]


def _opened(batches: Iterable[Batch]) -> tuple[Any, Iterable[Any]]:
    iterator = iter(batches)
    for first in iterator:
        return first, chain([first], iterator)
    raise ValueError("a covariance needs data, but there is no batch; pass at least one")


def _compression(spec: Json, made: Plan, rotation: np.ndarray) -> Compression:
    def turn(leaves: dict[str, Array]) -> dict[str, Array]:
        return turned_leaves(made, rotation, leaves)

    return compression_of(spec, jax.jit(turn))


def _renamed(graph: Graph, made: Plan) -> str:
    """Return the name of the group that the stream has in the graph of the rotated function."""
    places = {
        (path, axis)
        for path, axes in made.axes.items()
        for axis in axes
        if path not in made.matrices
    }
    return next(
        name
        for name, one in graph.groups.items()
        if places & {(member.path, member.axis) for member in one.members}
    )
