"""Gates: real multipliers per channel, applied where a group is consumed.

1 leaves a channel untouched and 0 removes it, exactly, through BatchNorm and any nonlinearity: a
gate on the producer would be wrong before BatchNorm. Gates may be traced, differentiated and
vmapped, so candidates are compared without a recompile.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.compression.checks import check_widths
from jaxcompress.compression.precision import scaled
from jaxcompress.graph import Graph
from jaxcompress.graph.apply import carry
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.gates import Gates
from jaxcompress.graph.internals import source_line
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.means import over_kept, summands
from jaxcompress.graph.program import example_labels, label_program, read, split_static
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten
from jaxcompress.paths import flatten_with_paths
from jaxcompress.per_device import per_device
from jaxcompress.prune.gate_entries import at_slots, of_examples
from jaxcompress.prune.gate_numbers import FIRST, carried_inputs, gate_names, gate_numbers
from jaxcompress.prune.overflow import bounded_exponentials

__all__ = ["gated", "ones"]


def ones(graph: Graph) -> dict[str, jax.Array]:
    """Return gates that change nothing, `{group: float[width]}`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> ones(trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3))))
        {'a[1]': Array([1., 1., 1., 1.], dtype=float32)}
    """
    return {name: jnp.ones(group.width) for name, group in graph.groups.items()}


def gated(graph: Graph, function: Function) -> Function:
    """Make `g(variables, gates, *inputs)`, the function with its groups' channels multiplied.

    In every contraction over a group, one operand is multiplied by its gates: the one that carries
    the examples, else the left one. A vmap over candidate gates keeps one shared kernel. A sum over
    a group is such a contraction, with ones: every normalisation sees the gates. Where the program
    divides the sum by the number of summands, it divides by the sum of the gates (`means` of
    `trace`). In a maximum, a channel of gate 0 is less than all others.
    What overflows or is NaN where it is multiplied by a gate of 0, or in the exponential of a
    removed channel, counts nothing; a channel that does so earlier changes no output, but 0 x inf
    in a backward pass through it is NaN.

    Inside a function with a derivative rule of the user's, gates of 0 and 1 are exact, and gates
    have no gradient: that rule knows of none (`graph.graded` names the other groups). Between 0 and
    1 they scale what is summed over there, and the user's backward pass is only told which of the
    channels that leave the function are there.

    Under batch-statistics BatchNorm the examples of a batch interact: the gradient of the summed
    loss with respect to the gates of example b is then not that of its own loss alone.

    Args:
        graph: of a function of the same variables.
        function: evaluation, training or loss function `(variables, *inputs)`.

    Returns:
        `g`; its gates are `{group: float[width]}`, or `[examples, width]` for gates of each
        example. Groups that they do not name are left alone.

    Raises:
        ValueError: by `g`, if a group is unknown or a width wrong, or if gates per example meet a
            contraction without examples, or where a gradient is asked for by gates inside a
            custom derivative; the operation is named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> gated(graph, apply)(variables, {"a[1]": jnp.zeros(4)}, jnp.ones((5, 3))).sum().item()
        0.0
    """

    @functools.wraps(function)
    def with_gates(
        variables: PyTree, gates: Mapping[str, Array], *inputs: PyTree, **keywords: Any
    ) -> PyTree:
        check_widths(graph, gates, "gates", per_example=True)
        arrays, restore = split_static((inputs, keywords))
        # Nothing may differ between fewer devices than the gates that it is multiplied by.
        variables, arrays = per_device((variables, arrays), None, like=gates)
        inputs, keywords = restore(arrays)
        program = read(function, variables, inputs, keywords)
        labelled = label_program(program, False, graph.batch_axis, carried_inputs(graph, program))
        known = gate_numbers(graph, list(gates))
        names = gate_names(graph, list(gates))
        numbers = carry(labelled, known, lambda v: names[v - FIRST] if v >= FIRST else "ungated")
        slots = np.maximum(numbers - (FIRST - 1), 0)
        multiplier = functools.partial(_multiplier, by_kept=graph.means == "kept")
        gate = Gates(tuple(gates), tuple(_arrays(gates)), slots, labelled.labelling, multiplier)
        rewriting = Rewriting(np.zeros(len(slots), bool), rule_of, gate, bounded_exponentials)
        leaves, _ = flatten_with_paths(variables)
        return run_rewritten(labelled, rewriting, leaves.values(), inputs, keywords)

    return with_gates


def _arrays(gates: Mapping[str, Array]) -> list[Array]:
    """Return the gates, all `[width]` or all `[examples, width]`."""
    arrays = [jnp.asarray(value) for value in gates.values()]
    examples = {len(array) for array in arrays if array.ndim == 2}
    if len(examples) > 1:
        raise ValueError(f"gates of each example must agree on their number, but {examples}")
    if not examples:
        return arrays
    count = examples.pop()
    return [jnp.broadcast_to(array, (count, array.shape[-1])) for array in arrays]


def _multiplier(
    labelling: Labelling, slots: np.ndarray, gates: Sequence[Array], is_linear: bool, by_kept: bool
) -> Function:
    components = labelling.components()
    example = np.full(components.max(initial=-1) + 1, -1)
    examples = example_labels(labelling)
    example[components[examples]] = np.arange(len(examples))
    rows_given = {len(array) for array in gates if array.ndim == 2} - {1}
    if len(examples) and rows_given - {len(examples)}:
        raise ValueError(
            f"gates of each example are as many as the examples, but there are {len(examples)} and "
            f"gates for {sorted(rows_given)}; pass [{len(examples)}, width]"
        )

    def examples_on(axis: Axis) -> np.ndarray | None:
        if axis.labels is None:
            return None
        rows = example[components[axis.labels]]
        return rows if (rows >= 0).all() else None

    def multiply(
        node: Node, summed: Sequence[tuple[int, ...]], arrays: Sequence[Array]
    ) -> Sequence[Array]:
        operands = range(len(summed[0]))
        examples = [[examples_on(axis) for axis in node.inputs[i].axes] for i in operands]
        which = next((i for i in operands if any(e is not None for e in examples[i])), 0)
        place = next((i for i, e in enumerate(examples[which]) if e is not None), None)
        rows = None if place is None else examples[which][place]
        if rows is None and gates[0].ndim == 2 and _is_penalty(node):
            return arrays
        array, chosen = arrays[which], {}
        for dimensions in summed:
            labels = _labels(node, dimensions, which)
            if labels is not None and slots[labels].any():
                chosen[dimensions[which]] = at_slots(gates, slots[labels])
        if by_kept and node.is_mean and chosen:
            chosen = _averaging(node, chosen)
        for dimension, values in chosen.items():
            factor = _factor(node, node.inputs[which], dimension, values, place, rows)
            array = _gated(node, array, factor, is_linear)
        return [array if i == which else other for i, other in enumerate(arrays)]

    return multiply


def _is_penalty(node: Node) -> bool:
    """Whether a reduction gives one number of the variables alone: a term of a loss.

    Or whether steps count in one: of those, no example has more than another.
    """
    is_uniform = node.inputs[0].origin is not None or node.equation.primitive.name == "scan"
    return len(node.inputs) == 1 and not node.outputs[0].axes and is_uniform


def _labels(node: Node, dimensions: tuple[int, ...], which: int) -> np.ndarray | None:
    """Return the labels of one operand's summed axis; a fixed one loses what the other does."""
    axes = [node.inputs[i].axes[dimension] for i, dimension in enumerate(dimensions)]
    axis, other = axes[which], axes[len(axes) - 1 - which]
    return other.labels if axis.labels is None and axis.size == other.size else axis.labels


def _averaging(node: Node, gates: Mapping[int, Array]) -> dict[int, Array]:
    """Scale the gates of a mean's axes, so that the program's division is by what they leave."""
    fraction: Any = 1.0
    for values in gates.values():
        total, size = values.sum(-1, keepdims=True), values.shape[-1]
        fraction = fraction * jnp.where(total == 0, size, total) / size
    assert node.divided is not None and node.divided.ddof is not None
    factor = over_kept(node.divided.ddof, summands(node), fraction, jnp.maximum)
    first = next(iter(gates))
    return {**gates, first: gates[first] * factor}


def _gated(node: Node, array: Array, factor: Array, is_linear: bool) -> Array:
    """Multiply an operand; where that would not leave an entry out, put what changes nothing."""
    rule = rule_of(node.equation)
    is_number = jnp.issubdtype(array.dtype, jnp.inexact)
    if is_number and (rule is None or rule.neutral is None):
        return scaled(array, factor, is_linear)
    neutral = 0 if rule is None or rule.neutral is None else rule.neutral(array.dtype)
    return jnp.where(factor == 0, jnp.asarray(neutral, array.dtype), array)


def _factor(
    node: Node,
    value: Value,
    dimension: int,
    gates: PyTree,
    place: int | None,
    rows: np.ndarray | None,
) -> Array:
    """Return the gates of one operand's axis, `[size]` or `[examples, size]`, in shape."""
    shape = [1] * len(value.axes)
    shape[dimension] = gates.shape[-1]
    if gates.ndim == 1:
        return gates.reshape(shape)
    if place is None or rows is None:
        raise ValueError(
            "gates of each example need an operand with an example axis, but "
            f"{node.equation.primitive.name} at {source_line(node.equation)} has none; "
            "use gates [width]"
        )
    shape[place] = len(rows)
    each = of_examples(gates, rows)
    return (each if place < dimension else each.T).reshape(shape)
