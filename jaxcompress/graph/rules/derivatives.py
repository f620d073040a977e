"""Rules of functions with a derivative rule of their own: `custom_jvp` and `custom_vjp`.

The derivative rule is read as a jaxpr too, with the labels of the primal, and a call that lost
channels is rebuilt from both. So relu keeps its derivative of 0 at 0, and a straight-through
estimator keeps passing gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.axes import Value
from jaxcompress.graph.derivative import losses, rewrite_derivative
from jaxcompress.graph.internals import bind, closed
from jaxcompress.graph.interpret import Body, Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling

__all__ = ["RULES"]


def _is_inexact(aval: Array) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _inexact(atoms: Sequence[Array]) -> list[int]:
    """Return the positions of the operands that have tangents."""
    return [i for i, atom in enumerate(atoms) if _is_inexact(atom.aval)]


def _fill(values: Sequence[Array], positions: Sequence[int], new: Sequence[Array]) -> list[Array]:
    replaced = dict(zip(positions, new, strict=True))
    return [replaced.get(i, value) for i, value in enumerate(values)]


def _of_inexact(equation: JaxprEqn, values: Sequence[Array]) -> Array:
    """Return the call as a function of its inexact operands, giving its inexact results."""
    positions, kept = _inexact(equation.invars), _inexact(equation.outvars)

    def function(*inexact: Any) -> tuple[list[Array], list[Array]]:
        results = bind(equation, _fill(values, positions, inexact))
        return [results[i] for i in kept], results

    return function


def jvp_jaxpr(equation: JaxprEqn) -> ClosedJaxpr:
    """Read the derivative rule: (operands, inexact tangents) -> (results, inexact tangents)."""
    positions = _inexact(equation.invars)

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
    positions = _inexact(equation.invars)
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
    cotangents = [equation.outvars[i].aval for i in _inexact(equation.outvars)]
    return forward_jaxpr, jax.make_jaxpr(backward)(residuals, cotangents)


def _vouch(
    labelling: Labelling,
    equation: JaxprEqn,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Value],
    expected: Sequence[Value],
) -> Body:
    """Label a derivative rule, so that what it cannot do without is frozen too."""
    body = labelling.enter(jaxpr, [Value(value.axes) for value in inputs])
    for output, other in zip(body.outputs, expected, strict=False):
        for pair in zip(output.axes, other.axes, strict=True):
            labelling.tie(equation, *pair)
    return body


def _primal(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Body:
    """Label the function itself; no unfinished permutation can be handed in or out."""
    with labelling.scope(inside_rule=True):
        body = labelling.enter(closed(equation.params["call_jaxpr"]), inputs)
    labelling.use(body.outputs)
    return body


def custom_jvp(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the function; in discovery also its tangents, with the same labels."""
    body = _primal(labelling, equation, inputs)
    if labelling.discover and not labelling.silent:
        tangents = [inputs[i] for i in _inexact(equation.invars)]
        expected = [*body.outputs, *(body.outputs[i] for i in _inexact(equation.outvars))]
        with labelling.scope(silent=True):
            _vouch(labelling, equation, jvp_jaxpr(equation), [*inputs, *tangents], expected)
    return Outcome(body.outputs, (body,))


def rebind_custom_jvp(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Rebuild the function with its own tangents on fewer channels."""
    body, equation = node.bodies[0], node.equation
    positions, results = _inexact(equation.invars), _inexact(equation.outvars)
    inputs = [losses(rewriting, value) for value in node.inputs]
    outputs = [losses(rewriting, value) for value in node.outputs]
    function = jax.custom_jvp(lambda *values: rewriting(body, values))

    @function.defjvp
    def jvp(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        derivative, smaller = rewrite_derivative(
            rewriting,
            jvp_jaxpr(equation),
            [*inputs, *(inputs[i] for i in positions)],
            [*outputs, *(outputs[i] for i in results)],
        )
        values = smaller(derivative, [*primals, *(tangents[i] for i in positions)])
        values, output_tangents = values[: len(outputs)], values[len(outputs) :]
        return values, _fill([_zero_tangent(value) for value in values], results, output_tangents)

    return list(function(*arrays))


def _zero_tangent(value: Array) -> Array:
    if _is_inexact(jax.typeof(value)):
        return jnp.zeros_like(value)
    return np.zeros(value.shape, jax.dtypes.float0)


def custom_vjp(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the function; in discovery also its forward and backward passes."""
    body = _primal(labelling, equation, inputs)
    if labelling.discover and not labelling.silent:
        forward_jaxpr, backward_jaxpr = vjp_jaxprs(equation)
        inexact = [inputs[i] for i in _inexact(equation.invars)]
        cotangents = [body.outputs[i] for i in _inexact(equation.outvars)]
        with labelling.scope(silent=True):
            forward = _vouch(labelling, equation, forward_jaxpr, inputs, body.outputs)
            residuals = forward.outputs[len(body.outputs) :]
            _vouch(labelling, equation, backward_jaxpr, [*residuals, *cotangents], inexact)
    return Outcome(body.outputs, (body,))


def rebind_custom_vjp(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Rebuild the function with its own forward and backward passes on fewer channels."""
    body, equation = node.bodies[0], node.equation
    positions, results = _inexact(equation.invars), _inexact(equation.outvars)
    inputs = [losses(rewriting, value) for value in node.inputs]
    outputs = [losses(rewriting, value) for value in node.outputs]
    function = jax.custom_vjp(lambda *values: rewriting(body, values))

    def passes() -> tuple[tuple[Body, Rewriting], tuple[Body, Rewriting]]:
        forward_jaxpr, backward_jaxpr = vjp_jaxprs(equation)
        forward, smaller = rewrite_derivative(rewriting, forward_jaxpr, inputs, outputs)
        residuals = [losses(smaller, value) for value in forward.outputs[len(outputs) :]]
        cotangents = [outputs[i] for i in results]
        backward = rewrite_derivative(
            rewriting, backward_jaxpr, [*residuals, *cotangents], [inputs[i] for i in positions]
        )
        return (forward, smaller), backward

    def run_forward(*values: Any) -> tuple[list[Array], list[Array]]:
        forward, smaller = passes()[0]
        made = smaller(forward, values)
        return made[: len(outputs)], made[len(outputs) :]

    def run_backward(residuals: list[Array], cotangents: list[Array]) -> tuple[Array, ...]:
        backward, smaller = passes()[1]
        gradients = smaller(backward, [*residuals, *(cotangents[i] for i in results)])
        return tuple(_fill([None] * len(equation.invars), positions, gradients))

    function.defvjp(run_forward, run_backward)
    return list(function(*arrays))


RULES = {
    "custom_jvp_call": Rule(custom_jvp, rebind_custom_jvp),
    "custom_vjp_call": Rule(custom_vjp, rebind_custom_vjp),
}
