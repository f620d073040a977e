"""Scores from activations: how large what a channel hands to its consumers is, on average."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.compiled import jit_of
from jaxcompress.compression.checks import check_groups
from jaxcompress.compression.observing import visit
from jaxcompress.compression.precision import namespace, widened
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.graph.rules import rule_of
from jaxcompress.per_device import AxisName, average
from jaxcompress.prune.importance.observed import (
    Channels,
    Counted,
    channels_of,
    mean_over_examples,
    mean_over_positions,
)
from jaxcompress.prune.scores import Scores

__all__ = ["activation_norms"]

CONTRACTIONS = ("dot_general", "conv_general_dilated", "ragged_dot_general")


def activation_norms(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    *,
    counted: Counted | None = None,
    groups: Collection[str] | None = None,
    axis_name: AxisName = None,
) -> Scores:
    """Score a channel by the size of its activation where it is contracted, without labels.

    s_c = sqrt(mean over examples b of sum over contractions u of (mean over positions p of
    |x_ubpc|)^2), where x_u is what the contraction u over the group is given. So a residual width
    is scored by what normalisation hands to the kernels, a hidden width of a perceptron by what the
    nonlinearity does, and a head by its output: where a channel has several entries in one
    position, |x| is their L2 norm. Of a product of two activations (queries and keys) the left one
    counts. Sums and maxima over channels, those of normalisation, are no contractions.

    Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge
    Distillation" (Minitron), section 2.2: the mean over positions, then the L2 norm over examples,
    the aggregation that they chose. They look at perceptrons before the nonlinearity and at each
    normalisation once; here an array counts once for every contraction that reads it, and layers
    that share a width are added up as squares.

    Args:
        graph: of a function of the variables.
        apply: `(variables, inputs) -> outputs` in evaluation mode; another one than was traced
            will do, for example the encoder inside a network that compares pairs.
        variables: pytree of arrays; half precision is summed in float32.
        batches: an iterable of inputs `[examples, ...]`, read once. One program is compiled for
            each shape of them, and only the sums are kept.
        counted: `counted(inputs) -> [examples, positions]`, 0 for padding, which leaves positions
            out of the mean of every array that has these as its first two axes.
        groups: which to score, default all; the contractions of others are not looked at.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.

    Returns:
        `{group: float[width]}`, raw norms: `select` divides them by the mean of each group.
        Groups that nothing contracts in `apply`, such as the layers of a scan, are left out, so
        that `select` keeps them whole.

    Raises:
        ValueError: if a group is unknown, there is no batch, variables or activations are not
            finite (all are named), nothing contracts a group, or a `while` loop or a branch holds
            a contraction.
        TypeError: if batches is a mapping: one batch.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.abs(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.array([[3.0, 0.0], [0.0, 1.0]]), "b": jnp.ones((2, 5))}
        >>> x = jnp.array([[1.0, 7.0], [1.0, 1.0]])
        >>> graph = trace(apply, variables, x)
        >>> activation_norms(graph, apply, variables, [x])["a[1]"].tolist()
        [3.0, 5.0]
    """
    names = tuple(graph.groups if groups is None else groups)
    check_groups(graph, dict.fromkeys(names), "activation_norms")
    functions = (graph, apply, *([] if counted is None else [counted]))
    compiled = jit_of(_means, *functions, groups=names, axis_name=axis_name)
    means = mean_over_examples(compiled, graph, variables, batches, "activation norms")
    if not means:
        raise ValueError(
            "an activation is measured where a conv or dot sums over a group, but this function "
            "has no such place; print(graph) tells what consumes a group"
        )
    ordered = {name: means[name] for name in graph.groups if name in means}
    scores = {n: namespace(m).sqrt(m).astype(np.float32) for n, m in ordered.items()}
    return Scores(scores, "activation norms", "raw norm")


def _means(
    graph: Graph,
    apply: Function,
    *counted: Counted,
    groups: tuple[str, ...],
    axis_name: AxisName,
) -> Function:
    """Make the mean over one batch of the squares of each channel's norms, `{group: [width]}`."""

    def means(variables: PyTree, inputs: PyTree) -> dict[str, jax.Array]:
        channels = channels_of(graph, apply, variables, inputs, groups)
        weights = jnp.asarray(counted[0](inputs)) if counted else None
        squares: dict[str, jax.Array] = {}

        def look(node: Node, arrays: list[Array]) -> None:
            for given in _given(channels, node):
                norms = mean_over_positions(_norms(arrays[given.operand], given), weights)
                name = groups[given.group]
                mean = jnp.square(norms).mean(0)
                squares[name] = squares[name] + mean if name in squares else mean

        def wanted(node: Node) -> bool:
            return any(True for _ in _given(channels, node))

        visit(channels.labelled, variables, inputs, wanted, look)
        return average(squares, axis_name)

    return means


class Given(NamedTuple):
    """Where a contraction is given the channels of a group.

    Attributes:
        group: its position among those that are looked at.
        operand: of the contraction.
        dimension: of the operand, that is summed over.
        indices: `int[width, multiplicity]` along it.
        beside: the other dimensions that are summed over.
        examples: the dimension of the examples, if there is one.
    """

    group: int
    operand: int
    dimension: int
    indices: np.ndarray
    beside: tuple[int, ...]
    examples: int | None


def _given(channels: Channels, node: Node) -> Iterator[Given]:
    """Yield what a contraction is given of groups, by the first operand that is no variable."""
    rule = rule_of(node.equation)
    if node.equation.primitive.name not in CONTRACTIONS or rule is None or rule.contracted is None:
        return
    operand = next((i for i in (0, 1) if node.inputs[i].origin is None), None)
    if operand is None:
        return
    value = node.inputs[operand]
    summed = [pair[operand] for pair in rule.contracted(node.equation)]
    for dimension in summed:
        beside = tuple(other for other in summed if other != dimension)
        for group, indices in channels.along(value.axes[dimension]):
            yield Given(group, operand, dimension, indices, beside, channels.examples(value))


def _norms(array: Array, given: Given) -> jax.Array:
    """Return the norm of each channel at every example and position, `[examples, ..., width]`."""
    first = () if given.examples is None else (given.examples,)
    last = (*given.beside, given.dimension)
    positions = [d for d in range(array.ndim) if d not in (*first, *last)]
    squares = jnp.square(widened(array)).transpose(*first, *positions, *last)
    squares = squares.sum(tuple(range(array.ndim - len(last), array.ndim - 1)))
    squares = squares if first else squares[None]
    taken = squares[..., given.indices.ravel()]
    return jnp.sqrt(taken.reshape(*taken.shape[:-1], *given.indices.shape).sum(-1))
