"""The derivative rules of users as jaxprs: what JAX would run to differentiate a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.internals import bind

__all__ = ["fill", "inexact", "is_inexact", "jvp_jaxpr", "vjp_jaxprs"]


def is_inexact(aval: Array) -> bool:
    """Tell whether an array has tangents."""
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def inexact(atoms: Sequence[Array]) -> list[int]:
    """Return the positions of the atoms of a jaxpr that have tangents.

    Example:
        >>> program = jax.make_jaxpr(lambda x, n: x * n)(1.0, 2)
        >>> inexact(program.jaxpr.invars)
        [0]
    """
    return [i for i, atom in enumerate(atoms) if is_inexact(atom.aval)]


def fill(values: Sequence[Array], positions: Sequence[int], new: Sequence[Array]) -> list[Array]:
    """Put new values in the places of some."""
    replaced = dict(zip(positions, new, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]


def _of_inexact(equation: JaxprEqn, values: Sequence[Array]) -> Array:
    """Return the call as a function of its inexact operands, giving its inexact results."""
    positions, kept = inexact(equation.invars), inexact(equation.outvars)

    def function(*inexact: Any) -> tuple[list[Array], list[Array]]:
        results = bind(equation, fill(values, positions, inexact))
        return [results[i] for i in kept], results

    return function


def jvp_jaxpr(equation: JaxprEqn) -> ClosedJaxpr:
    """Read the derivative rule: (operands, inexact tangents) -> (results, inexact tangents)."""
    positions = inexact(equation.invars)

    def function(values: list[Array], tangents: list[Array]) -> tuple[list[Array], list[Array]]:
        primals = tuple(values[i] for i in positions)
        _, derivative, results = jax.jvp(
            _of_inexact(equation, values), primals, tuple(tangents), has_aux=True
        )
        return results, derivative

    avals = [atom.aval for atom in equation.invars]
    return jax.make_jaxpr(function)(avals, [avals[i] for i in positions])


def vjp_jaxprs(equation: JaxprEqn) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """Read the derivative rule: operands -> (results, residuals), and (residuals, ct) -> ct."""
    positions = inexact(equation.invars)
    tree = None

    def forward(values: list[Array]) -> tuple[list[Array], list[Array]]:
        nonlocal tree
        primals = tuple(values[i] for i in positions)
        _, pullback, results = jax.vjp(_of_inexact(equation, values), *primals, has_aux=True)
        residuals, tree = jax.tree.flatten(pullback)
        return results, residuals

    def backward(residuals: list[Array], cotangents: list[Array]) -> PyTree:
        return jax.tree.unflatten(tree, residuals)(cotangents)

    avals = [atom.aval for atom in equation.invars]
    forward_jaxpr, (_, residuals) = jax.make_jaxpr(forward, return_shape=True)(avals)
    cotangents = [equation.outvars[i].aval for i in inexact(equation.outvars)]
    return forward_jaxpr, jax.make_jaxpr(backward)(residuals, cotangents)
