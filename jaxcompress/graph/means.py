"""Which sums of a program are means: divided by exactly the number of their summands.

A mean over channels that lost some of them may divide by what is left, as the same code would at
the smaller width, or by the number that the program names, as if the lost ones were zeros.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import isclose, prod
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import is_literal, shape_of
from jaxcompress.graph.symbolic import is_long, is_symbolic, quotient

__all__ = ["mean_equations"]

SAME = "convert_element_type copy pcast pvary reduce_precision reshard stop_gradient".split()
PASSING = frozenset([*SAME, "broadcast_in_dim", "expand_dims", "reshape", "squeeze", "transpose"])

ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "max": max,
    "min": min,
    **{name: lambda value: value for name in SAME},
}

Users = Mapping[Any, Sequence[JaxprEqn]]
Known = Mapping[Any, Any]


def mean_equations(jaxpr: ClosedJaxpr) -> list[int]:
    """Return the positions of the sums whose every use divides them by their number of summands.

    The division, or multiplication by the inverse, may stand behind changes of type and shape, and
    be made in several steps by scalars that the program knows.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.make_jaxpr(lambda x: (x.sum(1) / 4, x.sum(0) / 4))(jnp.ones((3, 4)))
        >>> [program.jaxpr.eqns[number].params["axes"] for number in mean_equations(program)]
        [(1,)]
    """
    equations = jaxpr.jaxpr.eqns
    sums = [number for number, one in enumerate(equations) if one.primitive.name == "reduce_sum"]
    if not sums:
        return []
    users: dict[Any, list[JaxprEqn]] = defaultdict(list)
    for equation in equations:
        for atom in equation.invars:
            if not is_literal(atom):
                users[atom].append(equation)
    known, ends = _scalars(jaxpr), {v for v in jaxpr.jaxpr.outvars if not is_literal(v)}
    return [number for number in sums if _is_mean(equations[number], users, known, ends)]


def _scalars(jaxpr: ClosedJaxpr) -> dict[Any, Any]:
    """Return the scalars of a program that depend on nothing, by variable."""
    pairs = zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True)
    known: dict[Any, Any] = {one: float(value) for one, value in pairs if _is_scalar(value)}
    for equation in jaxpr.jaxpr.eqns:
        if equation.primitive.name == "dim_as_value":
            known[equation.outvars[0]] = equation.params["dim"]
        operation = ARITHMETIC.get(equation.primitive.name)
        if operation is not None and not shape_of(equation.outvars[0]):
            values = [_value(atom, known) for atom in equation.invars]
            if is_symbolic(*values):
                if equation.primitive.name in SAME:
                    known[equation.outvars[0]] = values[0]
            elif None not in values:
                known[equation.outvars[0]] = float(operation(*values))
    return known


def _is_scalar(value: Array) -> bool:
    return isinstance(value, float | int | np.ndarray | np.generic) and (
        np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number)
    )


def _value(atom: Any, known: Known) -> Array:
    if is_literal(atom):
        return float(atom.val) if _is_scalar(atom.val) else None
    return known.get(atom)


def _is_mean(equation: JaxprEqn, users: Users, known: Known, ends: set[Array]) -> bool:
    shape = shape_of(equation.invars[0])
    count = prod(shape[dimension] for dimension in equation.params["axes"])
    whole = count if is_symbolic(count) else float(count)
    return is_long(count) and _divided(equation.outvars[0], whole, users, known, ends)


def _divided(variable: Array, count: Array, users: Users, known: Known, ends: set[Array]) -> bool:
    """Whether every use of a variable divides it by `count`."""
    if variable in ends or not users.get(variable):
        return False
    return all(_divides(one, variable, count, users, known, ends) for one in users[variable])


def _divides(
    equation: JaxprEqn, variable: Array, count: Array, users: Users, known: Known, ends: set[Array]
) -> bool:
    left = count
    if equation.primitive.name not in PASSING:
        left = _multiplied(count, equation, variable, known)
        if left is None:
            return False
        if not is_symbolic(left) and isclose(left, 1.0, rel_tol=1e-5):
            return True
    return _divided(equation.outvars[0], left, users, known, ends)


def _multiplied(count: Array, equation: JaxprEqn, variable: Array, known: Known) -> Array:
    """Return count x the scalar by which an equation multiplies a variable, None if there is none.

    Counts, and what divides them, may be symbolic.
    """
    if equation.primitive.name not in ("mul", "div") or len(equation.invars) != 2:
        return None
    left, right = equation.invars
    is_left = left is variable
    other = right if is_left else left
    if other is variable or (equation.primitive.name == "div" and not is_left):
        return None
    value = _value(other, known)
    if value is None or value == 0:
        return None
    if is_symbolic(count, value):
        return quotient(count, value) if equation.primitive.name == "div" else None
    if not np.isfinite(value):
        return None
    return count * (value if equation.primitive.name == "mul" else 1 / value)
