"""Rules of contractions: `dot_general`, `ragged_dot_general` and `conv_general_dilated`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.rules.averaging import rebind_sum
from jaxcompress.graph.taps import tap_pairs

__all__ = ["RULES", "passed_dimensions"]


def dot_contracted(equation: JaxprEqn) -> list[tuple[int, int]]:
    """Return the pairs of dimensions that a dot sums over."""
    (left, right), _ = equation.params["dimension_numbers"]
    return list(zip(left, right, strict=True))


def dot(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie contracted and batch axes pairwise; the result has batch, left and right axes."""
    left, right = inputs
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    pairs = [(left.axes[i], right.axes[j]) for i, j in dot_contracted(equation)]
    summed = [labelling.tie(equation, *pair) for pair in pairs]
    batch = [
        labelling.tie(equation, left.axes[i], right.axes[j])
        for i, j in zip(left_batch, right_batch, strict=True)
    ]
    free_left = [a for i, a in enumerate(left.axes) if i not in (*left_sum, *left_batch)]
    free_right = [a for i, a in enumerate(right.axes) if i not in (*right_sum, *right_batch)]
    outputs = [*batch, *free_left, *free_right]
    counted, constant = _count([*outputs, *summed])
    labelling.contraction(equation, inputs, pairs, counted, 2 * constant)
    return Outcome([Value(tuple(outputs))])


def ragged_contracted(equation: JaxprEqn) -> list[tuple[int, int]]:
    """Return the pairs of dimensions that a ragged dot sums over."""
    (left, right), _ = equation.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
    return list(zip(left, right, strict=True))


def ragged_dot(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie as a dot does; which rows belong to which group, and the groups, stay."""
    left, right, *groups = inputs
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (left_sum, right_sum), (left_batch, right_batch) = numbers.dot_dimension_numbers
    (ragged,), grouped = numbers.lhs_ragged_dimensions, tuple(numbers.rhs_group_dimensions)
    named = [left.axes[ragged], *(right.axes[i] for i in grouped)]
    for axis in [*named, *(axis for value in groups for axis in value.axes)]:
        labelling.pin(equation, axis, "the sizes of groups say what belongs to each")
    pairs = [(left.axes[i], right.axes[j]) for i, j in ragged_contracted(equation)]
    summed = [labelling.tie(equation, *pair) for pair in pairs]
    batch = [
        labelling.tie(equation, left.axes[i], right.axes[j])
        for i, j in zip(left_batch, right_batch, strict=True)
    ]
    free_left = [a for i, a in enumerate(left.axes) if i not in (*left_sum, *left_batch)]
    used = (*right_sum, *right_batch, *grouped)
    outputs = [*batch, *free_left, *(a for i, a in enumerate(right.axes) if i not in used)]
    counted, constant = _count([*outputs, *summed])
    labelling.contraction(equation, inputs[:2], pairs, counted, 2 * constant)
    if ragged in left_sum:  # one result for each group of summands
        outputs = [groups[0].axes[-1], *outputs]
    return Outcome([Value(tuple(outputs))])


def _count(axes: Sequence[Axis]) -> tuple[list[Axis], int]:
    """Separate the axes that may lose indices from the product of the sizes of the others."""
    counted = [axis for axis in axes if axis.labels is not None]
    return counted, prod(axis.size for axis in axes if axis.labels is None)


def conv_contracted(equation: JaxprEqn) -> list[tuple[int, int]]:
    """Return the pair of feature dimensions that a convolution sums over; none if depthwise."""
    numbers = equation.params["dimension_numbers"]
    if _is_depthwise(equation):
        return []
    return [(numbers.lhs_spec[1], numbers.rhs_spec[1])]


def passed_dimensions(equation: JaxprEqn, position: int) -> tuple[int, ...]:
    """Return the dimensions of an operand whose channels a contraction passes on.

    Each of them acts on the same channel of the other operand alone: the features of a depthwise
    kernel, and the batch dimensions of a dot.
    """
    if equation.primitive.name == "ragged_dot_general":
        numbers = equation.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
        return tuple(numbers[1][position])
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        return tuple(numbers[1][position])
    return (numbers.rhs_spec[0],) if position == 1 and _is_depthwise(equation) else ()


def _is_depthwise(equation: JaxprEqn) -> bool:
    inputs_per_group = shape_of(equation.invars[1])[
        equation.params["dimension_numbers"].rhs_spec[1]
    ]
    return equation.params["feature_group_count"] > 1 and inputs_per_group == 1


def conv(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie input features to kernel I, and kernel O to output features."""
    params = equation.params
    numbers = params["dimension_numbers"]
    shape = shape_of(equation.outvars[0])
    image, kernel = inputs
    if params["batch_group_count"] > 1:
        labelling.pin_all(equation, inputs, "a convolution with batch groups keeps its shape")
        sizes = shape[numbers.out_spec[0]], *(kernel.axes[i].size for i in numbers.rhs_spec[:2])
        labelling.contraction(equation, inputs, (), (), 2 * prod(sizes) * tap_pairs(equation))
        return Outcome([whole(shape)])
    for value, spec in ((image, numbers.lhs_spec), (kernel, numbers.rhs_spec)):
        for dimension in spec[2:]:
            labelling.pin(equation, value.axes[dimension], "a convolution's window is spatial")
    features, batch = image.axes[numbers.lhs_spec[1]], image.axes[numbers.lhs_spec[0]]
    kernel_in, kernel_out = (kernel.axes[numbers.rhs_spec[i]] for i in (1, 0))
    groups = params["feature_group_count"]
    if _is_depthwise(equation):
        _tie_depthwise(labelling, equation, features, kernel_out)
    elif groups > 1:
        _tie_grouped(labelling, equation, features, kernel_in, kernel_out, groups)
    else:
        labelling.tie(equation, features, kernel_in)
    axes = [Axis(size) for size in shape]
    axes[numbers.out_spec[0]], axes[numbers.out_spec[1]] = batch, kernel_out
    counted, constant = _count([batch, kernel_out, kernel_in])
    constant *= 2 * tap_pairs(equation)
    pairs = [(image.axes[i], kernel.axes[j]) for i, j in conv_contracted(equation)]
    labelling.contraction(equation, inputs, pairs, counted, constant)
    return Outcome([Value(tuple(axes))])


def _tie_depthwise(
    labelling: Labelling, equation: JaxprEqn, features: Axis, kernel_out: Axis
) -> None:
    """Tie input feature c to the outputs (c, 0), (c, 1), ... computed from it."""
    if features.labels is None:
        labelling.pin(equation, kernel_out, "it is tied to input features of fixed number")
        return
    assert kernel_out.labels is not None
    outputs = kernel_out.labels.reshape(features.size, -1)
    labelling.tie_labels(np.repeat(features.labels, outputs.shape[1]), outputs.ravel())


def _tie_grouped(
    labelling: Labelling,
    equation: JaxprEqn,
    features: Axis,
    kernel_in: Axis,
    kernel_out: Axis,
    groups: int,
) -> None:
    """Read features as groups x lanes: whole groups may go, or the same lanes of every group."""
    whole_groups = labelling.fresh(groups, Kind.FACTOR)
    if features.labels is None:
        for axis in (kernel_in, whole_groups):
            labelling.pin(equation, axis, "it is tied to input features of fixed number")
    else:
        labelling.product(equation, features, (whole_groups, kernel_in), used=True)
    if kernel_out.labels is None:
        labelling.pin(equation, whole_groups, "it is tied to outputs of fixed number")
    elif kernel_out.size == groups:
        labelling.tie_labels(kernel_out.labels, whole_groups.labels)
    else:
        lanes = labelling.fresh(kernel_out.size // groups, Kind.FACTOR)
        labelling.product(equation, kernel_out, (whole_groups, lanes), used=True)


def rebind_conv(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Give a convolution as many groups as are left."""
    groups = node.equation.params["feature_group_count"]
    if groups == 1 or node.equation.params["batch_group_count"] > 1:
        return bind(node.equation, arrays)
    numbers = node.equation.params["dimension_numbers"]
    features = rewriting.size(node.inputs[0].axes[numbers.lhs_spec[1]])
    lanes = rewriting.size(node.inputs[1].axes[numbers.rhs_spec[1]])
    groups = features // lanes if lanes else groups
    if not groups:
        return [jnp.zeros(rewriting.sizes(node.outputs[0]), arrays[0].dtype)]
    return bind(node.equation, arrays, {"feature_group_count": groups})


RULES = {
    "dot_general": Rule(dot, rebind_sum, dot_contracted),
    "ragged_dot_general": Rule(ragged_dot, contracted=ragged_contracted),
    "conv_general_dilated": Rule(conv, rebind_conv, conv_contracted),
}
