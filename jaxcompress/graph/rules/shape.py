"""Rules of primitives that rearrange, join, cut or reduce axes (reshape has its own file)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.rules.reshape import Deferred

__all__ = ["RULES"]


def broadcast(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Keep the operand's axes; new axes can have any indices that their users keep."""
    labelling.use(inputs)
    shape = equation.outvars[0].aval.shape
    source = dict(zip(equation.params["broadcast_dimensions"], inputs[0].axes, strict=True))
    axes = tuple(
        source[i] if i in source and source[i].size == size else labelling.fresh(size, Kind.FREE)
        for i, size in enumerate(shape)
    )
    return Outcome([Value(axes)])


def rebind_broadcast(rewriting: Rewriting, node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Broadcast to the smaller shape."""
    return bind(node.equation, arrays, {"shape": rewriting.sizes(node.outputs[0])})


def transpose(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Permute the axes."""
    axes = tuple(inputs[0].axes[i] for i in equation.params["permutation"])
    return Outcome([inputs[0].with_axes(axes)])


def rebind_transpose(rewriting: Rewriting, node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Transpose, or remember to."""
    (array,) = arrays
    if isinstance(array, Deferred):
        return [array.transpose(node.equation.params["permutation"])]
    return bind(node.equation, arrays)


def squeeze(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop axes of size 1."""
    dropped = equation.params["dimensions"]
    axes = tuple(axis for i, axis in enumerate(inputs[0].axes) if i not in dropped)
    return Outcome([inputs[0].with_axes(axes)])


def concatenate(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Join the label vectors along one axis, tie the others."""
    labelling.use(inputs)
    along = equation.params["dimension"]
    axes = [
        labelling.tie(equation, *(value.axes[i] for value in inputs))
        for i in range(len(inputs[0].axes))
    ]
    axes[along] = _join(labelling, equation, [value.axes[along] for value in inputs])
    return Outcome([Value(tuple(axes))])


def _join(labelling: Labelling, equation: JaxprEqn, parts: Sequence[Axis]) -> Axis:
    """Concatenate axes; fixed ones get labels that are pinned, if any other has labels."""
    size = sum(part.size for part in parts)
    if all(part.labels is None for part in parts):
        return Axis(size)
    labels = [_labels_or_pinned(labelling, equation, part) for part in parts]
    return Axis(size, np.concatenate(labels))


def _labels_or_pinned(labelling: Labelling, equation: JaxprEqn, part: Axis) -> np.ndarray:
    if part.labels is not None:
        return part.labels
    labels = labelling.fresh_labels(part.size, Kind.FREE)
    labelling.pin(equation, Axis(part.size, labels), "it is joined from an axis of fixed size")
    return labels


def cut(labelling: Labelling, equation: JaxprEqn, axis: Axis, index: slice) -> Axis:
    """Take a range of an axis; a single index left over must be kept."""
    picked = np.arange(axis.size)[index]
    if axis.labels is None or len(picked) == axis.size and index.step in (None, 1):
        return axis if len(picked) == axis.size else Axis(len(picked))
    part = Axis(len(picked), axis.labels[picked])
    if part.size == 1:
        labelling.pin(equation, part, "it is picked out by its index")
        return Axis(1)
    return part


def slice_(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Cut every axis."""
    labelling.use(inputs)
    axes = tuple(
        cut(labelling, equation, axis, index)
        for axis, index in zip(inputs[0].axes, _slices(equation), strict=True)
    )
    return Outcome([Value(axes)])


def _slices(equation: JaxprEqn) -> list[slice]:
    params = equation.params
    strides = params["strides"] or (1,) * len(params["start_indices"])
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [slice(start, limit, stride) for start, limit, stride in bounds]


def rebind_slice(rewriting: Rewriting, node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Take the retained indices of the range, at their places among those retained before."""
    (array,) = arrays
    starts, limits, strides = [], [], []
    for dimension, (axis, index) in enumerate(
        zip(node.inputs[0].axes, _slices(node.equation), strict=True)
    ):
        kept = rewriting.kept(axis)
        if kept is None:
            start, limit, stride = index.start, index.stop, index.step
        else:
            places = np.flatnonzero(np.isin(kept, np.arange(axis.size)[index]))
            if not _is_range(places):
                array = jnp.take(array, places, axis=dimension)
                places = np.arange(len(places))
            start = int(places[0]) if len(places) else 0
            limit, stride = start + len(places), 1
        starts.append(start), limits.append(limit), strides.append(stride)
    return [lax.slice(array, starts, limits, strides)]


def _is_range(places: np.ndarray) -> bool:
    return len(places) == 0 or bool(places[-1] - places[0] + 1 == len(places))


def split(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Cut one axis into consecutive pieces."""
    labelling.use(inputs)
    (value,) = inputs
    along, outputs, start = equation.params["axis"], [], 0
    for size in equation.params["sizes"]:
        axes = list(value.axes)
        axes[along] = cut(labelling, equation, axes[along], slice(start, start + size))
        outputs.append(Value(tuple(axes)))
        start += size
    return Outcome(outputs)


def rebind_split(rewriting: Rewriting, node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Cut at the places that remain."""
    along = node.equation.params["axis"]
    sizes = tuple(rewriting.size(value.axes[along]) for value in node.outputs)
    return bind(node.equation, arrays, {"sizes": sizes})


def pad(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Padded indices get labels of their own, free to be removed (option-A shortcuts)."""
    labelling.use(inputs)
    axes = [
        _pad_axis(labelling, equation, axis, *config)
        for axis, config in zip(inputs[0].axes, equation.params["padding_config"], strict=True)
    ]
    return Outcome([Value(tuple(axes))])


def _pad_axis(
    labelling: Labelling, equation: JaxprEqn, axis: Axis, low: int, high: int, interior: int
) -> Axis:
    if (low, high, interior) == (0, 0, 0):
        return axis
    size = low + high + axis.size + interior * max(axis.size - 1, 0)
    if axis.labels is None:
        return Axis(size)
    if interior or low < 0 or high < 0:
        labelling.pin(equation, axis, "it is padded inside or cropped")
        return Axis(size)
    padding = [labelling.fresh_labels(count, Kind.FREE) for count in (low, high)]
    return Axis(size, np.concatenate([padding[0], axis.labels, padding[1]]))


def rebind_pad(rewriting: Rewriting, node: Node, arrays: Sequence[Any]) -> list[Any]:
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


def reverse(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Reverse label vectors."""
    labelling.use(inputs)
    axes = tuple(
        Axis(axis.size, axis.labels[::-1])
        if i in equation.params["dimensions"] and axis.labels is not None
        else axis
        for i, axis in enumerate(inputs[0].axes)
    )
    return Outcome([Value(axes)])


RULES = {
    "broadcast_in_dim": Rule(broadcast, rebind_broadcast),
    "transpose": Rule(transpose, rebind_transpose),
    "squeeze": Rule(squeeze),
    "concatenate": Rule(concatenate),
    "slice": Rule(slice_, rebind_slice),
    "split": Rule(split, rebind_split),
    "pad": Rule(pad, rebind_pad),
    "rev": Rule(reverse),
    "empty": Rule(
        lambda labelling, equation, inputs: Outcome([whole(v.aval.shape) for v in equation.outvars])
    ),
}
