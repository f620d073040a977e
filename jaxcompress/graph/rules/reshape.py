"""The rule of `reshape`: merge and split axes, and recognise a permutation of one axis.

A reshape falls into blocks of axes with equal products. In a block that merges axes of which one
is labelled, its labels are tiled. Where two or more factors are labelled, the block is a
`Product`: exactly one factor may lose indices. A split axis that only transposes and reshapes
touch before it is merged again is a permutation (channel shuffle) and constrains nothing; run on
fewer channels it is carried out as one `take`, since the ragged array in between has no shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Shuffle, Value, whole
from jaxcompress.graph.deferred import Deferred
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.selection import select
from jaxcompress.graph.symbolic import is_long, is_symbolic, less

__all__ = ["RULES"]


class Block(NamedTuple):
    """Consecutive input dimensions that become consecutive output dimensions."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def blocks(before: Sequence[int], after: Sequence[int]) -> list[Block]:
    """Return the finest blocks of dimensions with equal products.

    Example:
        >>> blocks((2, 12, 5), (2, 3, 4, 5))
        [Block(inputs=(0,), outputs=(0,)), Block(inputs=(1,), outputs=(1, 2)), \
Block(inputs=(2,), outputs=(3,))]
    """
    finest, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(left), j + len(right)
        while (size := prod(before[k] for k in left)) != (other := prod(after[k] for k in right)):
            if less(size, other) or j == len(after):
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        finest.append(Block(tuple(left), tuple(right)))
    return finest


def reshape(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Merge and split axes block by block."""
    (value,) = inputs[:1]
    shape = shape_of(equation.outvars[0])
    if 0 in shape or equation.params.get("dimensions") is not None:
        labelling.use(inputs)
        labelling.pin_all(equation, inputs, "it is reshaped in another order, or is empty")
        return Outcome([whole(shape)])
    parts = blocks([axis.size for axis in value.axes], shape)
    axes: list[Axis] = []
    for block in parts:
        axes += _block(labelling, equation, [value.axes[i] for i in block.inputs], block, shape)
    if not _is_plain(value, parts, axes):
        labelling.use([value, Value(tuple(axes))])
    return Outcome([value.rearranged(tuple(axes), "reshape", shape)])


def _is_plain(value: Value, parts: Sequence[Block], axes: Sequence[Axis]) -> bool:
    """Tell whether at most one block changes, so that a permutation may stay unfinished."""
    changed = [
        b
        for b in parts
        if [value.axes[i].size for i in b.inputs] != [axes[j].size for j in b.outputs]
    ]
    return len([b for b in changed if _is_proper(value, axes, b)]) <= 1


def _is_proper(value: Value, axes: Sequence[Axis], block: Block) -> bool:
    """Tell whether a block does more than insert or drop axes of size 1."""
    before = [value.axes[i].size for i in block.inputs if is_long(value.axes[i].size)]
    return before != [axes[j].size for j in block.outputs if is_long(axes[j].size)]


def _block(
    labelling: Labelling, equation: JaxprEqn, before: list[Axis], block: Block, shape: Sequence[int]
) -> list[Axis]:
    """Return the axes that one block becomes; sizes of 1 come and go freely."""
    proper = [axis for axis in before if is_long(axis.size)]
    sizes = [shape[j] for j in block.outputs]
    targets = [size for size in sizes if is_long(size)]
    if [axis.size for axis in proper] == targets:
        made = proper
    elif not targets:
        made = []
    elif len(targets) == 1:
        made = [merge(labelling, equation, proper)]
    else:
        merged = proper[0] if len(proper) == 1 else merge(labelling, equation, proper)
        made = divide(labelling, equation, merged, targets)
    remaining = iter(made)
    return [next(remaining) if is_long(size) else Axis(size) for size in sizes]


def merge(labelling: Labelling, equation: JaxprEqn, axes: Sequence[Axis]) -> Axis:
    """Merge axes, major first, into one."""
    sizes = [axis.size for axis in axes]
    labelled = [i for i, axis in enumerate(axes) if axis.labels is not None]
    if not labelled:
        reason = next((axis.reason for axis in axes if axis.reason), "")
        return Axis(prod(sizes), parts=tuple(axes), reason=reason)
    if is_symbolic(*sizes):
        for axis in axes:
            labelling.pin(equation, axis, "it is merged with an axis of symbolic size")
        return Axis(prod(sizes), parts=tuple(Axis(size) for size in sizes))
    restored = _restore(labelling, axes)
    if restored is not None:
        return restored
    if len(labelled) == 1:
        labelling.use([Value(tuple(axes))])
        position = labelled[0]
        labels = _spread(axes[position].labels, sizes, position)  # type: ignore[arg-type]
        return Axis(prod(sizes), labels, parts=tuple(axes))
    labelling.use([Value(tuple(axes))])
    merged = labelling.fresh(prod(sizes), Kind.FACTOR)
    labelling.product(equation, merged, axes, used=True)
    return replace(merged, parts=tuple(axes))


def _spread(labels: np.ndarray, sizes: Sequence[int], position: int) -> np.ndarray:
    """Repeat the labels of one factor over the whole product."""
    shape = [1] * len(sizes)
    shape[position] = sizes[position]
    return np.broadcast_to(labels.reshape(shape), sizes).ravel()


def _restore(labelling: Labelling, axes: Sequence[Axis]) -> Axis | None:
    """Merge all factors of one split axis again, in any order: a permutation of it."""
    splits = [axis.split for axis in axes]
    if any(split is None for split in splits):
        return None
    numbers = {split.product for split in splits if split is not None}
    order = [split.position for split in splits if split is not None]
    if len(numbers) > 1:
        return None
    product = labelling.products[numbers.pop()]
    if sorted(order) != list(range(len(product.factors))):
        return None
    if order == sorted(order):
        return product.axis
    indices = np.arange(product.axis.size).reshape(product.sizes).transpose(order).ravel()
    assert product.axis.labels is not None
    return Axis(
        product.axis.size, product.axis.labels[indices], shuffle=Shuffle(product.axis, indices)
    )


def divide(
    labelling: Labelling, equation: JaxprEqn, axis: Axis, sizes: Sequence[int]
) -> list[Axis]:
    """Split one axis into factors, major first."""
    if [part.size for part in axis.parts] == list(sizes):
        return list(axis.parts)
    if axis.labels is None:
        return [Axis(size, reason=axis.reason) for size in sizes]
    labelling.use([Value((axis,))])
    position = _only_varying(axis.labels.reshape(sizes))
    if position is None:
        return list(labelling.split(equation, axis, sizes))
    factors = [Axis(size) for size in sizes]
    index = tuple(slice(None) if i == position else 0 for i in range(len(sizes)))
    factors[position] = Axis(sizes[position], axis.labels.reshape(sizes)[index])
    return factors


def _only_varying(labels: np.ndarray) -> int | None:
    """Return the one dimension along which labels differ, if there is just one."""
    varying = [i for i in range(labels.ndim) if np.any(np.diff(labels, axis=i))]
    return varying[0] if len(varying) == 1 else None


def rebind_reshape(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Reshape to the smaller shape; put a ragged split off; carry a permutation out."""
    (array, *rest), (before, *_), (after,) = arrays, node.inputs, node.outputs
    parts = blocks([axis.size for axis in before.axes], [axis.size for axis in after.axes])
    if isinstance(array, Deferred):
        return [_finish(rewriting, array, parts, after)]
    if _is_ragged(rewriting, before, after):
        places = {j: block.inputs for block in parts for j in block.outputs}
        proper = [_proper_dimension(before, places[j]) for j in range(len(after.axes))]
        return [Deferred(array, tuple(proper))]
    return bind(node.equation, [array, *rest], {"new_sizes": rewriting.sizes(after)})


def _proper_dimension(before: Value, dimensions: Sequence[int]) -> int:
    """Return the dimension of a block that is longer than 1, if any, else -1: a new axis."""
    proper = [i for i in dimensions if is_long(before.axes[i].size)]
    return proper[0] if proper else -1


def _is_ragged(rewriting: Rewriting, before: Value, after: Value) -> bool:
    return prod(rewriting.sizes(before)) != prod(rewriting.sizes(after))


def _finish(
    rewriting: Rewriting, deferred: Deferred, parts: Sequence[Block], after: Value
) -> Array:
    """Bring a deferred array into the order of the merged one."""
    array, order = deferred.array, []
    for block in parts:
        places = [deferred.places[i] for i in block.inputs if deferred.places[i] >= 0]
        order += list(dict.fromkeys(places))
    shuffles = [axis.shuffle for axis in after.axes]
    array = jnp.transpose(array, (*order, *(i for i in range(array.ndim) if i not in order)))
    proper = [i for i, axis in enumerate(after.axes) if is_long(axis.size)]
    for position, dimension in enumerate(proper):
        shuffle = shuffles[dimension]
        if shuffle is not None:
            kept = rewriting.places(shuffle.source, shuffle.permutation)
            array = select(array, kept, position)
    return array.reshape(rewriting.sizes(after))


RULES = {"reshape": Rule(reshape, rebind_reshape, permutes=True)}
