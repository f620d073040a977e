"""Rules of indexing at run time: axes taken whole pass, axes that are indexed into are pinned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.reading import unknown
from jaxcompress.graph.rules.joining import cut
from jaxcompress.graph.selection import select, selected, sliced
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["RULES"]

INDEXED = "it is indexed at run time"


def dynamic_slice(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass the axes that the slice covers whole; take the labels of a range that is known."""
    axes = [
        _passes(labelling, equation, axis, size)
        if index is None
        else cut(labelling, equation, axis, index, size)
        for axis, size, index in zip(
            inputs[0].axes, equation.params["slice_sizes"], _ranges(equation, inputs), strict=True
        )
    ]
    return Outcome([Value(tuple(axes))])


def _ranges(equation: JaxprEqn, inputs: Sequence[Value]) -> list[slice | None]:
    """Return the range that a slice takes of each axis; None where it is computed."""
    ranges: list[slice | None] = []
    sizes = equation.params["slice_sizes"]
    for axis, size, start in zip(inputs[0].axes, sizes, inputs[1:], strict=True):
        if start.indices is None or is_symbolic(axis.size, size):
            ranges.append(None)
        else:
            first = min(max(int(start.indices), 0), axis.size - size)
            ranges.append(slice(first, first + size))
    return ranges


def _passes(labelling: Labelling, equation: JaxprEqn, axis: Axis, size: int) -> Axis:
    if axis.size == size:
        return axis
    labelling.pin(equation, axis, INDEXED)
    return Axis(size, reason=axis.reason or INDEXED)


def rebind_dynamic_slice(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Cover what is retained."""
    array, *starts = arrays
    for dimension, index in enumerate(_ranges(node.equation, node.inputs)):
        axis = node.inputs[0].axes[dimension]
        if index is not None and rewriting.kept(axis) is not None:
            places = rewriting.places(axis, np.arange(axis.size)[index])
            array = (
                array if len(places) == array.shape[dimension] else select(array, places, dimension)
            )
    sizes = rewriting.sizes(node.outputs[0])
    return bind(node.equation, [array, *starts], {"slice_sizes": sizes})


def dynamic_update(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie the axes that the update covers whole."""
    axes = []
    for axis, new in zip(inputs[0].axes, inputs[1].axes, strict=True):
        if axis.size == new.size:
            axes.append(labelling.tie(equation, axis, new))
        else:
            labelling.pin(equation, axis, INDEXED)
            labelling.pin(equation, new, INDEXED)
            axes.append(Axis(axis.size, reason=INDEXED))
    return Outcome([Value(tuple(axes))])


def gather(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass the axes taken whole, and the batch axes of the indices."""
    numbers, (operand, indices, *_) = equation.params["dimension_numbers"], inputs
    taken_indices = selected(equation, indices.indices)
    if taken_indices is not None:
        return Outcome([_select(labelling, equation, operand, *taken_indices)])
    start = sliced(equation, indices.indices)
    if start is not None:
        return Outcome([_cut(labelling, equation, operand, *start)])
    sizes = equation.params["slice_sizes"]
    taken, left_out = [], (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    for dimension, axis in enumerate(operand.axes):
        # Of a slice that covers an axis whole, an index only says whether it is in bounds.
        if dimension not in left_out:
            taken.append(_passes(labelling, equation, axis, sizes[dimension]))
        elif dimension in numbers.collapsed_slice_dims:
            labelling.pin(equation, axis, INDEXED)
    batch = list(indices.axes[:-1])
    for dimension, other in zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    ):
        batch[other] = labelling.tie(equation, operand.axes[dimension], batch[other])
    offsets, rest = iter(taken), iter(batch)
    rank = len(shape_of(equation.outvars[0]))
    axes = [next(offsets) if i in numbers.offset_dims else next(rest) for i in range(rank)]
    return Outcome([Value(tuple(axes))])


def _select(
    labelling: Labelling, equation: JaxprEqn, value: Value, dimension: int, indices: np.ndarray
) -> Value:
    """Take the labels at known indices; a single one must be kept."""
    axes = list(value.axes)
    labels = axes[dimension].labels
    axes[dimension] = Axis(len(indices), None if labels is None else labels[indices])
    if len(indices) == 1:
        labelling.pin(equation, axes[dimension], "it is picked out by its index")
        axes[dimension] = Axis(1)
    return Value(tuple(axes))


def _cut(
    labelling: Labelling, equation: JaxprEqn, value: Value, dimension: int, index: slice
) -> Value:
    """Take the labels of a range, as a slice does."""
    axes = list(value.axes)
    axes[dimension] = cut(labelling, equation, axes[dimension], index, index.stop - index.start)
    dropped = equation.params["dimension_numbers"].collapsed_slice_dims
    return Value(tuple(axis for i, axis in enumerate(axes) if i not in dropped))


def rebind_gather(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Take what is retained of each whole axis."""
    taken = selected(node.equation, node.inputs[1].indices)
    if taken is not None:
        dimension, indices = taken
        places = rewriting.places(node.inputs[0].axes[dimension], indices)
        distinct = node.equation.params["unique_indices"]
        return [select(arrays[0], places, dimension, distinct)]
    start = sliced(node.equation, node.inputs[1].indices)
    if start is not None and rewriting.kept(node.inputs[0].axes[start[0]]) is not None:
        dimension, index = start
        axis = node.inputs[0].axes[dimension]
        places = rewriting.places(axis, np.arange(axis.size)[index])
        dropped = node.equation.params["dimension_numbers"].collapsed_slice_dims
        return [select(arrays[0], places, dimension).squeeze(dropped)]
    sizes = tuple(
        rewriting.size(axis) if axis.size == size else size
        for axis, size in zip(node.inputs[0].axes, node.equation.params["slice_sizes"], strict=True)
    )
    return bind(node.equation, arrays, {"slice_sizes": sizes})


def scatter(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie the operand's axes to those of whole update windows, wherever these start; pin others."""
    operand, indices, updates = inputs
    numbers = equation.params["dimension_numbers"]
    left_out = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = iter([updates.axes[i] for i in numbers.update_window_dims])
    axes = []
    for dimension, axis in enumerate(operand.axes):
        window = None if dimension in left_out else next(windows)
        if window is not None and window.size == axis.size:
            axes.append(labelling.tie(equation, axis, window))
        elif dimension in numbers.operand_batching_dims:
            axes.append(axis)
        else:
            labelling.pin(equation, axis, INDEXED)
            if window is not None:
                labelling.pin(equation, window, INDEXED)
            axes.append(axis)
    batch = [a for i, a in enumerate(updates.axes) if i not in numbers.update_window_dims]
    for axis, other in zip(batch, indices.axes[:-1], strict=True):
        labelling.tie(equation, axis, other)
    for dimension, other in zip(
        numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True
    ):
        labelling.tie(equation, operand.axes[dimension], indices.axes[other])
    return Outcome([Value(tuple(axes))])


def maybe_set(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Write one entry of a buffer, as the loops of Equinox do: `buffer.at[place].set(entry)`."""
    _, buffer, entry, *places = inputs
    if len(places) != 1 or places[0].axes or len(entry.axes) != len(buffer.axes) - 1:
        return unknown(labelling, equation, inputs)
    labelling.pin(equation, buffer.axes[0], INDEXED)
    pairs = zip(buffer.axes[1:], entry.axes, strict=True)
    axes = [labelling.tie(equation, *pair) for pair in pairs]
    return Outcome([Value((Axis(buffer.axes[0].size, reason=INDEXED), *axes))])


SCATTERS = """
scatter scatter-add scatter-sub scatter-mul scatter-max scatter-min scatter_add scatter_mul
""".split()

RULES = {
    "dynamic_slice": Rule(dynamic_slice, rebind_dynamic_slice),
    "dynamic_update_slice": Rule(dynamic_update),
    "gather": Rule(gather, rebind_gather),
    "maybe_set": Rule(maybe_set),
    **{name: Rule(scatter) for name in SCATTERS},
}
