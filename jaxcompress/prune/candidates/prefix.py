"""Computing once what does not depend on an argument, before a loop over that argument.

Candidates that differ in late groups only share all that comes before: the equations of the loss
that no differing gate reaches. A compiler may or may not move these out of a loop; this does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.internals import bind, inner_jaxprs, is_literal

__all__ = ["hoist"]

Known = dict[Any, Any]
"""Variables of a jaxpr, and their values."""

Step = tuple[Callable[[Sequence[Any]], Sequence[Any]], Sequence[Any], Sequence[Any]]
"""What is left to do: a function of the values of input atoms, the atoms, the outputs."""


def hoist(function: Callable[[Any], Any], like: PyTree) -> Callable[[Any], Any]:
    """Compute at once what of `function(argument)` does not depend on the argument.

    The function is traced with an argument `like` this one; equations that it does not reach are
    evaluated here, also inside jitted calls. A loop body is taken as a whole.

    Args:
        function: of one pytree of arrays.
        like: pytree of arrays or `jax.ShapeDtypeStruct`.

    Returns:
        `after(argument) -> function(argument)`, for arguments of the same shapes, that does only
        the rest.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones((3, 3))
        >>> after = hoist(lambda gate: (x @ x).sum() * gate, jnp.ones(()))
        >>> [e.primitive.name for e in jax.make_jaxpr(after)(jnp.ones(())).eqns], float(after(2.0))
        (['mul'], 54.0)
    """
    program, shape = jax.make_jaxpr(function, return_shape=True)(like)
    unknown = [None] * len(program.jaxpr.invars)
    outputs = _continue(program, unknown)
    structure = jax.tree.structure(shape)
    return lambda argument: jax.tree.unflatten(structure, outputs(jax.tree.leaves(argument)))


def _continue(
    program: ClosedJaxpr, inputs: Sequence[Any | None]
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Evaluate what follows from the known inputs; return a function of the values of all."""
    jaxpr = program.jaxpr
    known: Known = dict(zip(jaxpr.constvars, program.consts, strict=True))
    pairs = zip(jaxpr.invars, inputs, strict=True)
    known |= {variable: value for variable, value in pairs if value is not None}
    steps = [step for equation in jaxpr.eqns for step in _step(equation, known)]

    def rest(values: Sequence[Array]) -> Sequence[Array]:
        environment = {**dict(zip(jaxpr.invars, values, strict=True)), **known}
        for function, atoms, outputs in steps:
            results = function([_value(environment, atom) for atom in atoms])
            environment.update(zip(outputs, results, strict=True))
        return [_value(environment, atom) for atom in jaxpr.outvars]

    return rest


def _step(equation: JaxprEqn, known: Known) -> list[Step]:
    """Evaluate an equation whose inputs are all known; return what is left of any other."""
    inputs = [_value(known, atom) for atom in equation.invars]
    if all(value is not None for value in inputs) and not equation.effects:
        known.update(zip(equation.outvars, bind(equation, inputs), strict=True))
        return []
    if equation.primitive.name in ("jit", "pjit"):
        return [(_continue(inner_jaxprs(equation)[0], inputs), equation.invars, equation.outvars)]
    return [(lambda values: bind(equation, values), equation.invars, equation.outvars)]


def _value(known: Known, atom: Any) -> Any | None:
    return atom.val if is_literal(atom) else known.get(atom)
