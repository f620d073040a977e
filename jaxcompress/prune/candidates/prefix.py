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
from jaxcompress.graph.internals import bind, inner_jaxprs
from jaxcompress.graph.interpret import run

__all__ = ["hoist"]


class _Later:
    """What an equation will give once the argument is known."""


Step = tuple[Callable[[Sequence[Array]], Sequence[Array]], Sequence[Array], Sequence[_Later]]
"""What is left to do: a function, its inputs, some of them known by then only, its results."""


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
    outputs = _continue(program, [_Later() for _ in program.jaxpr.invars])
    structure = jax.tree.structure(shape)
    return lambda argument: jax.tree.unflatten(structure, outputs(jax.tree.leaves(argument)))


def _continue(
    program: ClosedJaxpr, inputs: Sequence[Array]
) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """Evaluate what follows from the known inputs; return a function of the values of all."""
    steps: list[Step] = []

    def step(_: int, equation: JaxprEqn, values: list[Array]) -> Sequence[Array]:
        is_known = not any(isinstance(value, _Later) for value in values)
        if is_known and not equation.effects:
            return bind(equation, values)
        results = [_Later() for _ in equation.outvars]
        steps.append((_rest(equation, values), values, results))
        return results

    outputs = run(program, program.consts, inputs, step, lambda atom: atom.val)

    def rest(values: Sequence[Array]) -> Sequence[Array]:
        known = dict(zip(map(id, inputs), values, strict=True))
        for function, operands, results in steps:
            made = function([known.get(id(operand), operand) for operand in operands])
            known.update(zip(map(id, results), made, strict=True))
        return [known.get(id(output), output) for output in outputs]

    return rest


def _rest(
    equation: JaxprEqn, values: Sequence[Array]
) -> Callable[[Sequence[Array]], Sequence[Array]]:
    if equation.primitive.name in ("jit", "pjit"):
        return _continue(inner_jaxprs(equation)[0], values)
    return lambda known: bind(equation, known)
