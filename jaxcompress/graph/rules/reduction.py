"""Rules of primitives that mix the entries of an axis: reductions, scans, sorts and windows.

Removing a channel is not the same as masking it where the channels themselves are summed,
compared or normalised (LayerNorm, softmax over channels): such an axis is pinned. A sum over
channels still has a meaning for fewer of them (an L2 term of a loss), so that pin is soft: it
decides what may be removed, but does not stop a decision from being applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.interpret import Outcome, Rule
from jaxcompress.graph.labelling import Labelling

__all__ = ["RULES"]


def reduce(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop the reduced axes; where one is labelled, removing differs from masking."""
    params = equation.params
    value, dropped = inputs[0], params["axes" if "axes" in params else "dimensions"]
    name = equation.primitive.name
    for dimension in dropped:
        labelling.pin(equation, value.axes[dimension], f"it is reduced by {name}", hard=False)
    axes = tuple(axis for i, axis in enumerate(value.axes) if i not in dropped)
    return Outcome([Value(axes) for _ in equation.outvars])


def search(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop the searched axes: a position among channels changes when one is removed."""
    for dimension in equation.params["axes"]:
        axis = inputs[0].axes[dimension]
        labelling.pin(equation, axis, f"{equation.primitive.name} returns a position on it")
    axes = tuple(axis for i, axis in enumerate(inputs[0].axes) if i not in equation.params["axes"])
    return Outcome([Value(axes)])


def accumulate(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Keep all axes, of which the accumulated one is pinned."""
    name = equation.primitive.name
    labelling.pin(equation, inputs[0].axes[equation.params["axis"]], f"{name} runs along it")
    return Outcome([Value(inputs[0].axes)])


def sort(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie the operands; the sorted axis is pinned."""
    axes = [
        labelling.tie(equation, *(value.axes[i] for value in inputs))
        for i in range(len(inputs[0].axes))
    ]
    sorted_axis = axes[equation.params["dimension"]]
    labelling.pin(equation, sorted_axis, "it is sorted")
    return Outcome([Value(tuple(axes)) for _ in equation.outvars])


def top_k(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pin the axis that is searched, the last unless the equation names another."""
    axes = list(inputs[0].axes)
    dimension = equation.params.get("axis", len(axes) - 1)
    labelling.pin(equation, axes[dimension], "top_k runs along it")
    axes[dimension] = Axis(shape_of(equation.outvars[0])[dimension])
    return Outcome([Value(tuple(axes)) for _ in equation.outvars])


def window(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass the axes that a window does not move along; pin the others."""
    value = inputs[-1] if equation.primitive.name == "select_and_scatter_add" else inputs[0]
    shape = shape_of(equation.outvars[0])
    axes = []
    for dimension, axis in enumerate(value.axes):
        if not _is_still(equation, dimension):
            for operand in inputs:
                if operand.axes:
                    labelling.pin(equation, operand.axes[dimension], "a window moves along it")
            axis = Axis(shape[dimension])
        axes.append(axis)
    shaped = [operand for operand in inputs if operand.axes]
    for dimension in range(len(value.axes)):
        if _is_still(equation, dimension):
            labelling.tie(equation, *(operand.axes[dimension] for operand in shaped))
    return Outcome([Value(tuple(axes)) for _ in equation.outvars])


def _is_still(equation: JaxprEqn, dimension: int) -> bool:
    """Tell whether a window covers single entries of a dimension, without padding."""
    params = equation.params
    ones = (params.get(name) for name in ("window_strides", "base_dilation", "window_dilation"))
    return (
        params["window_dimensions"][dimension] == 1
        and all(values is None or values[dimension] == 1 for values in ones)
        and tuple(params["padding"][dimension]) == (0, 0)
    )


REDUCTIONS = "reduce reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor"
ACCUMULATIONS = "cumlogsumexp cummax cummin cumprod cumsum"
WINDOWS = """
reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add
select_and_scatter_add
"""

RULES = {
    **{name: Rule(reduce) for name in REDUCTIONS.split()},
    **{name: Rule(search) for name in ("argmax", "argmin")},
    **{name: Rule(accumulate) for name in ACCUMULATIONS.split()},
    "sort": Rule(sort),
    "top_k": Rule(top_k),
    **{name: Rule(window) for name in WINDOWS.split()},
}
