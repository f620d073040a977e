"""Numbers that a program knows before it runs: what it divides its sums by.

An array all of whose entries are one known number keeps it through calls, changes of type and
shape, and arithmetic. `jnp.var` divides by `16 - ddof` inside a `jit` to which `ddof` is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.known import ARITHMETIC
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["SAME", "Scalar", "scalar_of", "with_scalars"]


class Scalar(NamedTuple):
    """The one number that every entry of an array is.

    Attributes:
        number: a NumPy scalar of the array's type, or a symbolic size.
        less: the k of a number that the program computed as n - k; 0 for any other.
    """

    number: Any
    less: float = 0.0


def scalar_of(value: Array) -> Scalar | None:
    """Return the number that a literal or a constant is; None for an array or a traced value.

    Example:
        >>> scalar_of(np.float32(16)).number.item(), scalar_of(np.ones(3))
        (16.0, None)
    """
    is_known = isinstance(value, float | int | np.ndarray | np.generic)
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        is_known = value.is_fully_addressable and not _is_extended(value.dtype)
    if not is_known or np.ndim(value) or not _is_number(np.asarray(value).dtype):
        return None
    return Scalar(np.asarray(value)[()])


def with_scalars(
    equation: JaxprEqn, inputs: Sequence[Value], outputs: Sequence[Value]
) -> Sequence[Value]:
    """Return an equation's results, with the number that all their entries are where it is known.

    Args:
        equation: the equation.
        inputs: its operands.
        outputs: its results.
    """
    operation = OPERATIONS.get(equation.primitive.name)
    scalars = [value.scalar for value in inputs if value.scalar is not None]
    if operation is None or len(scalars) < len(inputs):
        return outputs
    made = _computed(equation, operation, scalars)
    return outputs if made is None else [replace(outputs[0], scalar=made)]


def _computed(
    equation: JaxprEqn, operation: Callable[..., Any], scalars: Sequence[Scalar]
) -> Scalar | None:
    numbers, dtype = [one.number for one in scalars], equation.outvars[0].aval.dtype  # type: ignore[attr-defined]
    if is_symbolic(*numbers):
        return scalars[0] if equation.primitive.name in SAME else None
    with np.errstate(all="ignore"):
        made = operation(equation.params, *numbers)
        if is_symbolic(made):
            return Scalar(made)
        if _is_extended(dtype) or not _is_number(dtype):
            return None
        made = np.asarray(made).astype(dtype)[()]
    if equation.primitive.name == "sub":
        return Scalar(made, float(numbers[1]))
    return Scalar(made, next((one.less for one in scalars if one.number == made), 0.0))


def _is_number(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_


def _is_extended(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.extended)


def _quotient(_: Mapping[str, Any], left: Array, right: Array) -> Array:
    is_integer = np.issubdtype(np.asarray(left).dtype, np.integer)
    return np.trunc(np.true_divide(left, right)) if is_integer else np.true_divide(left, right)


def _chosen(_: Mapping[str, Any], which: Array, *cases: Array) -> Array:
    return cases[int(which)]


def _of(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *numbers: function(*numbers)


SAME = frozenset(
    """
    broadcast_in_dim convert_element_type copy copy_p expand_dims pcast pvary reduce_precision
    reshape reshard slice squeeze stop_gradient transpose
    """.split()
)
"""Primitives whose result holds entries of their one operand, and nothing else."""

OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: lambda _, number, *sizes: number for name in SAME},
    **{name: _of(function) for name, function in ARITHMETIC.items()},
    "dim_as_value": lambda params: params["dim"],
    "div": _quotient,
    "integer_pow": lambda params, number: number ** params["y"],
    "rsqrt": lambda _, number: 1 / np.sqrt(number),
    "select_n": _chosen,
    "sqrt": _of(np.sqrt),
    "square": _of(np.square),
}
