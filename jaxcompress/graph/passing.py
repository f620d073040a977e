"""Which axes of the operands each axis of a result goes on with, for every primitive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxcompress.graph.axes import Axis
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.interpret import Node
from jaxcompress.graph.rules.linear import passed_dimensions
from jaxcompress.graph.rules.reshape import blocks

__all__ = ["Sources", "sources"]

Sources = list[list[tuple[int, int]]]


def sources(node: Node, result: int) -> Sources:
    """Return, for each axis of a result, the operand axes (operand, dimension) that it carries on.

    An axis that a kernel makes comes from the kernel's axis; one that is broadcast from nothing.

    Args:
        node: an equation without nested jaxprs.
        result: the position among its results.
    """
    special = SPECIAL.get(node.equation.primitive.name)
    if special is not None:
        return special(node)
    axes = node.outputs[result].axes
    # As many results as operands: barriers, sorts and reductions over a mesh act on each alone.
    alone = len(node.inputs) == len(node.outputs)
    operands = [result] if alone else range(len(node.inputs))
    shaped = [number for number in operands if node.inputs[number].axes]
    if all(len(node.inputs[number].axes) == len(axes) for number in shaped):
        return [[(number, dimension) for number in shaped] for dimension in range(len(axes))]
    return [_alike(node, axis, shaped) for axis in axes]


def _alike(node: Node, axis: Axis, operands: Sequence[int]) -> list[tuple[int, int]]:
    """Return the operand axes that share labels with an axis: where axes come, go or move."""
    return [
        (number, dimension)
        for number in operands
        for dimension, other in enumerate(node.inputs[number].axes)
        if _share(axis, other)
    ]


def _share(one: Axis, other: Axis) -> bool:
    if one is other or one.labels is None or other.labels is None:
        return one is other
    return one.labels is other.labels or bool(np.isin(one.labels, other.labels).any())


def _dot(node: Node) -> Sources:
    summed, batch = node.equation.params["dimension_numbers"]
    free: Sources = [
        [(operand, dimension)]
        for operand in (0, 1)
        for dimension in range(len(node.inputs[operand].axes))
        if dimension not in (*summed[operand], *batch[operand])
    ]
    return [[(0, left), (1, right)] for left, right in zip(*batch, strict=True)] + free


def _conv(node: Node) -> Sources:
    """Depthwise kernels pass the features of the image on, others make their own."""
    numbers = node.equation.params["dimension_numbers"]
    features = (0, numbers.lhs_spec[1])
    if not passed_dimensions(node.equation, 1):
        features = (1, numbers.rhs_spec[0])
    made: Sources = [[] for _ in numbers.out_spec]
    made[numbers.out_spec[0]], made[numbers.out_spec[1]] = [(0, numbers.lhs_spec[0])], [features]
    return made


def _transpose(node: Node) -> Sources:
    return [[(0, dimension)] for dimension in node.equation.params["permutation"]]


def _broadcast(node: Node) -> Sources:
    made: Sources = [[] for _ in node.outputs[0].axes]
    for dimension, target in enumerate(node.equation.params["broadcast_dimensions"]):
        made[target] = [(0, dimension)]
    return made


def _reshape(node: Node) -> Sources:
    """A merged axis carries on all its factors, a factor the axis that was split."""
    shape = shape_of(node.equation.outvars[0])
    made: Sources = [[] for _ in shape]
    if 0 not in shape:
        for block in blocks([axis.size for axis in node.inputs[0].axes], shape):
            for target in block.outputs:
                made[target] = [(0, dimension) for dimension in block.inputs]
    return made


def _stack(node: Node) -> Sources:
    made: Sources = [
        [(number, dimension) for number in range(len(node.inputs))]
        for dimension in range(len(node.inputs[0].axes))
    ]
    made.insert(node.equation.params["axis"], [])
    return made


def _gather(node: Node) -> Sources:
    return [_alike(node, axis, (0, 1)) for axis in node.outputs[0].axes]


def _scatter(node: Node) -> Sources:
    """Whole windows of the updates meet the operand's axes."""
    numbers = node.equation.params["dimension_numbers"]
    left_out = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows, made = iter(numbers.update_window_dims), []
    for dimension in range(len(node.inputs[0].axes)):
        window = [] if dimension in left_out else [(2, next(windows))]
        made.append([(0, dimension), *window])
    return made


SCATTERS = """
scatter scatter-add scatter-sub scatter-mul scatter-max scatter-min scatter_add scatter_mul
""".split()

SPECIAL: dict[str, Callable[[Node], Sources]] = {
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "stack": _stack,
    "gather": _gather,
    **dict.fromkeys(SCATTERS, _scatter),
}
