"""Rules of primitives that join arrays along an axis or cut pieces out of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.selection import select
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["RULES"]


def concatenate(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Join the label vectors along one axis, tie the others."""
    along = equation.params["dimension"]
    axes = []
    for dimension in range(len(inputs[0].axes)):
        meet = _join if dimension == along else _tie
        axes.append(meet(labelling, equation, [value.axes[dimension] for value in inputs]))
    return Outcome([Value(tuple(axes))])


def _tie(labelling: Labelling, equation: JaxprEqn, axes: Sequence[Axis]) -> Axis:
    return labelling.tie(equation, *axes)


def _join(labelling: Labelling, equation: JaxprEqn, parts: Sequence[Axis]) -> Axis:
    """Concatenate axes; fixed ones get labels that are pinned, if any other has labels."""
    size = sum(part.size for part in parts)
    if is_symbolic(size):
        for part in parts:
            labelling.pin(equation, part, "it is joined with an axis of symbolic size")
    if is_symbolic(size) or all(part.labels is None for part in parts):
        return Axis(size)
    labels = [_labels_or_pinned(labelling, equation, part) for part in parts]
    return Axis(size, np.concatenate(labels))


def _labels_or_pinned(labelling: Labelling, equation: JaxprEqn, part: Axis) -> np.ndarray:
    if part.labels is not None:
        return part.labels
    labels = labelling.fresh_labels(part.size, Kind.FREE)
    labelling.pin(equation, Axis(part.size, labels), "it is joined from an axis of fixed size")
    return labels


def cut(labelling: Labelling, equation: JaxprEqn, axis: Axis, index: slice, size: int) -> Axis:
    """Take a range, of `size` indices, of an axis; a single index left over must be kept."""
    if axis.labels is None:
        return axis if axis.size == size else Axis(size)
    picked = np.arange(axis.size)[index]
    if len(picked) == axis.size and index.step in (None, 1):
        return axis
    part = Axis(len(picked), axis.labels[picked])
    if part.size == 1:
        labelling.pin(equation, part, "it is picked out by its index")
        return Axis(1)
    return part


def slice_(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Cut every axis."""
    axes = tuple(
        cut(labelling, equation, axis, index, size)
        for axis, index, size in zip(
            inputs[0].axes, _slices(equation), shape_of(equation.outvars[0]), strict=True
        )
    )
    return Outcome([Value(axes)])


def _slices(equation: JaxprEqn) -> list[slice]:
    params = equation.params
    strides = params["strides"] or (1,) * len(params["start_indices"])
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [slice(start, limit, stride) for start, limit, stride in bounds]


def rebind_slice(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Take the retained indices of the range, at their places among those retained before."""
    (array,) = arrays
    starts, limits, strides = [], [], []
    for dimension, (axis, index) in enumerate(
        zip(node.inputs[0].axes, _slices(node.equation), strict=True)
    ):
        start, limit, stride = index.start, index.stop, index.step
        if rewriting.kept(axis) is not None:
            places = rewriting.places(axis, np.arange(axis.size)[index])
            if not _is_range(places):
                array = select(array, places, dimension)
                places = np.arange(len(places))
            start = int(places[0]) if len(places) else 0
            limit, stride = start + len(places), 1
        starts.append(start)
        limits.append(limit)
        strides.append(stride)
    return [lax.slice(array, starts, limits, strides)]


def _is_range(places: np.ndarray) -> bool:
    return len(places) == 0 or bool(places[-1] - places[0] + 1 == len(places))


def split(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Cut one axis into consecutive pieces."""
    (value,) = inputs
    along, outputs, start = equation.params["axis"], [], 0
    for size in equation.params["sizes"]:
        axes = list(value.axes)
        axes[along] = cut(labelling, equation, axes[along], slice(start, start + size), size)
        outputs.append(Value(tuple(axes)))
        start += size
    return Outcome(outputs)


def rebind_split(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Cut at the places that remain."""
    along = node.equation.params["axis"]
    sizes = tuple(rewriting.size(value.axes[along]) for value in node.outputs)
    return bind(node.equation, arrays, {"sizes": sizes})


def stack(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie the operands; the new axis keeps its size."""
    axes = [
        _tie(labelling, equation, [value.axes[dimension] for value in inputs])
        for dimension in range(len(inputs[0].axes))
    ]
    axes.insert(equation.params["axis"], Axis(len(inputs)))
    return Outcome([Value(tuple(axes))])


def unstack(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Give each piece the other axes; the one it is cut along must keep its size."""
    axes = list(inputs[0].axes)
    labelling.pin(equation, axes.pop(equation.params["axis"]), "it is cut into single indices")
    return Outcome([Value(tuple(axes)) for _ in equation.outvars])


RULES = {
    "concatenate": Rule(concatenate),
    "slice": Rule(slice_, rebind_slice),
    "split": Rule(split, rebind_split),
    "stack": Rule(stack),
    "unstack": Rule(unstack),
}
