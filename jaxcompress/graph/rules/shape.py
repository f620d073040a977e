"""Rules of primitives that rearrange or extend axes (joining and reshape have their own files)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.deferred import Deferred
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["RULES"]


def broadcast(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Keep the operand's axes; new axes can have any indices that their users keep."""
    shape = shape_of(equation.outvars[0])
    source = dict(zip(equation.params["broadcast_dimensions"], inputs[0].axes, strict=True))
    axes = tuple(
        source[i] if i in source and source[i].size == size else labelling.fresh(size, Kind.FREE)
        for i, size in enumerate(shape)
    )
    return Outcome([Value(axes)])


def rebind_broadcast(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Broadcast to the smaller shape."""
    return bind(node.equation, arrays, {"shape": rewriting.sizes(node.outputs[0])})


def transpose(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Permute the axes."""
    permutation = equation.params["permutation"]
    axes = tuple(inputs[0].axes[i] for i in permutation)
    return Outcome([inputs[0].rearranged(axes, "transpose", permutation)])


def rebind_transpose(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Transpose, or remember to."""
    (array,) = arrays
    if isinstance(array, Deferred):
        return [array.transpose(node.equation.params["permutation"])]
    return bind(node.equation, arrays)


def squeeze(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop axes of size 1."""
    dropped = equation.params["dimensions"]
    axes = tuple(axis for i, axis in enumerate(inputs[0].axes) if i not in dropped)
    return Outcome([inputs[0].rearranged(axes, "reshape", shape_of(equation.outvars[0]))])


def pad(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Padded indices get labels of their own, free to be removed (option-A shortcuts)."""
    axes = [
        _pad_axis(labelling, equation, axis, size, *config)
        for axis, size, config in zip(
            inputs[0].axes,
            shape_of(equation.outvars[0]),
            equation.params["padding_config"],
            strict=True,
        )
    ]
    return Outcome([Value(tuple(axes))])


def _pad_axis(
    labelling: Labelling,
    equation: JaxprEqn,
    axis: Axis,
    size: int,
    low: int,
    high: int,
    interior: int,
) -> Axis:
    if (low, high, interior) == (0, 0, 0):
        return axis
    if axis.labels is None:
        return Axis(size)
    if interior or low < 0 or high < 0:
        labelling.pin(equation, axis, "it is padded inside or cropped")
        return Axis(size)
    padding = [labelling.fresh_labels(count, Kind.FREE) for count in (low, high)]
    return Axis(size, np.concatenate([padding[0], axis.labels, padding[1]]))


def rebind_pad(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Pad by as many indices as are retained of the padding."""
    configs = []
    for axis, (low, high, interior) in zip(
        node.outputs[0].axes, node.equation.params["padding_config"], strict=True
    ):
        kept = rewriting.kept(axis)
        if kept is not None:
            low, high = int((kept < low).sum()), int((kept >= axis.size - high).sum())
        configs.append((low, high, interior))
    return bind(node.equation, arrays, {"padding_config": tuple(configs)})


def tile(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Repeat label vectors; an axis of size 1 is broadcast, to any indices that its users keep."""
    axes = tuple(
        _repeat(labelling, equation, axis, count)
        for axis, count in zip(inputs[0].axes, equation.params["reps"], strict=True)
    )
    return Outcome([Value(axes)])


def _repeat(labelling: Labelling, equation: JaxprEqn, axis: Axis, count: int) -> Axis:
    if count == 1:
        return axis
    if axis.size == 1:
        return labelling.fresh(count, Kind.FREE)
    if is_symbolic(count):
        labelling.pin(equation, axis, "it is repeated a symbolic number of times")
        return Axis(axis.size * count)
    labels = None if axis.labels is None else np.tile(axis.labels, count)
    return Axis(axis.size * count, labels)


def rebind_tile(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Repeat as often as before, and broadcast to the smaller shape."""
    (before,), (after,) = node.inputs, node.outputs
    sizes = zip(rewriting.sizes(before), rewriting.sizes(after), strict=True)
    reps = tuple(new // old if old else 1 for old, new in sizes)
    return bind(node.equation, arrays, {"reps": reps})


def reverse(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Reverse label vectors."""
    axes = tuple(
        Axis(axis.size, axis.labels[::-1])
        if i in equation.params["dimensions"] and axis.labels is not None
        else axis
        for i, axis in enumerate(inputs[0].axes)
    )
    return Outcome([Value(axes)])


RULES = {
    "broadcast_in_dim": Rule(broadcast, rebind_broadcast),
    "transpose": Rule(transpose, rebind_transpose, permutes=True),
    "squeeze": Rule(squeeze, permutes=True),
    "pad": Rule(pad, rebind_pad),
    "rev": Rule(reverse),
    "tile": Rule(tile, rebind_tile),
    "empty": Rule(
        lambda labelling, equation, inputs: Outcome([whole(shape_of(v)) for v in equation.outvars])
    ),
}
