"""Rules of primitives that mix the entries of an axis: reductions, scans, sorts and windows.

A sum over channels is a contraction with ones: a gate multiplies each summand, so that removing a
channel equals masking it, in every normalisation. In a maximum, what changes nothing stands for a
channel whose gate is 0. What returns positions among channels, runs along them or sorts them has no
such reading: there the axis is pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.interpret import Outcome, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.rules.averaging import rebind_sum

__all__ = ["RULES"]


def reduce(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop the reduced axes, which lose what their summands lose."""
    value, dropped = inputs[0], [dimension for (dimension,) in reduced(equation)]
    labelling.reduction(equation, [value.axes[dimension] for dimension in dropped])
    axes = tuple(axis for i, axis in enumerate(value.axes) if i not in dropped)
    return Outcome([Value(axes) for _ in equation.outvars])


def reduced(equation: JaxprEqn) -> list[tuple[int]]:
    """Return the dimensions that a reduction drops."""
    return [(dimension,) for dimension in equation.params["axes"]]


def fold(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Drop the axes that an unknown operation combines; fewer of them mean something else."""
    count = len(inputs) // 2
    for value in inputs[:count]:
        for dimension in equation.params["dimensions"]:
            axis = value.axes[dimension]
            labelling.pin(equation, axis, "it is reduced by an operation of its own", hard=False)
    axes = tuple(
        axis for i, axis in enumerate(inputs[0].axes) if i not in equation.params["dimensions"]
    )
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


def fourier(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass the axes that are not transformed: the transformed ones are the last."""
    axes, shape = list(inputs[0].axes), shape_of(equation.outvars[0])
    reason = "a Fourier transform runs along it"
    for dimension in range(len(axes) - len(equation.params["fft_lengths"]), len(axes)):
        labelling.pin(equation, axes[dimension], reason)
        axes[dimension] = Axis(shape[dimension], reason=reason)
    return Outcome([Value(tuple(axes))])


def _is_still(equation: JaxprEqn, dimension: int) -> bool:
    """Tell whether a window covers single entries of a dimension, without padding."""
    params = equation.params
    ones = (params.get(name) for name in ("window_strides", "base_dilation", "window_dilation"))
    return (
        params["window_dimensions"][dimension] == 1
        and all(values is None or values[dimension] == 1 for values in ones)
        and tuple(params["padding"][dimension]) == (0, 0)
    )


def _least(dtype: DTypeLike) -> Array:
    return -np.inf if jnp.issubdtype(dtype, jnp.inexact) else _bounds(dtype)[0]


def _largest(dtype: DTypeLike) -> Array:
    return np.inf if jnp.issubdtype(dtype, jnp.inexact) else _bounds(dtype)[1]


def _bounds(dtype: DTypeLike) -> tuple[PyTree, PyTree]:
    if dtype == np.bool_:
        return False, True
    return jnp.iinfo(dtype).min, jnp.iinfo(dtype).max


NEUTRAL: dict[str, Callable[[Any], Any]] = {
    "reduce_max": _least,
    "reduce_min": _largest,
    "reduce_prod": lambda dtype: 1,
    "reduce_and": lambda dtype: True if dtype == np.bool_ else -1,
    "reduce_or": lambda dtype: False if dtype == np.bool_ else 0,
    "reduce_xor": lambda dtype: False if dtype == np.bool_ else 0,
}
ACCUMULATIONS = "cumlogsumexp cummax cummin cumprod cumsum"
WINDOWS = """
reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add
select_and_scatter_add
"""

RULES = {
    "reduce_sum": Rule(reduce, rebind_sum, reduced),
    "reduce": Rule(fold),
    **{name: Rule(reduce, None, reduced, neutral) for name, neutral in NEUTRAL.items()},
    **{name: Rule(search) for name in ("argmax", "argmin")},
    **{name: Rule(accumulate) for name in ACCUMULATIONS.split()},
    "fft": Rule(fourier),
    "sort": Rule(sort),
    "top_k": Rule(top_k),
    **{name: Rule(window) for name in WINDOWS.split()},
}
