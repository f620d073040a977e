"""Rules of functions with a derivative rule of their own: `custom_jvp` and `custom_vjp`.

The derivative rule is read as a jaxpr too, with the labels of the primal, and a call that lost
channels, or has gates, is rebuilt from both. So relu keeps its derivative of 0 at 0, and a
straight-through layer keeps passing gradients, on fewer channels or with gates of 0 and 1 alike.
Between 0 and 1 a gate scales what is summed over; of channels that leave the call, the user's
backward pass is only told which are there. By gates themselves no rule of a user differentiates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.derivative import marks, rewrite_derivative
from jaxcompress.graph.derivative_rules import fill, inexact, is_inexact, jvp_jaxpr, vjp_jaxprs
from jaxcompress.graph.internals import closed, source_line
from jaxcompress.graph.interpret import Body, Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.means import summed_axes

__all__ = ["RULES"]


def _vouch(
    labelling: Labelling,
    equation: JaxprEqn,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Value],
    expected: Sequence[Value],
) -> Body:
    """Label a derivative rule, so that what it cannot do without is frozen too."""
    body = labelling.enter(jaxpr, [Value(value.axes) for value in inputs])
    for made, other in zip(body.outputs, expected, strict=False):
        for pair in zip(made.axes, other.axes, strict=True):
            labelling.tie(equation, *pair)
    return body


def _primal(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Body:
    """Label the function itself; no unfinished permutation can be handed in or out."""
    with labelling.scope(inside_rule=True):
        body = labelling.enter(closed(equation.params["call_jaxpr"]), inputs)
    labelling.use(body.outputs)
    return body


def _pin_means(labelling: Labelling, bodies: Sequence[Body]) -> None:
    """Freeze what means divide by: the user's rule does not say whether that is what is left."""
    for node in [node for body in bodies for node in body.nodes]:
        for axis in [axis for axes in summed_axes(node) for axis in axes if node.is_mean]:
            reason = "a mean over it inside a custom derivative divides by its size"
            labelling.pin(node.equation, axis, reason, hard=False)
        _pin_means(labelling, node.bodies)


def _freeze(
    labelling: Labelling, equation: JaxprEqn, values: Sequence[Value], refusal: Exception
) -> None:
    """Freeze what meets a rule that refuses to be differentiated by all of its operands."""
    words = " ".join([f"{type(refusal).__name__}:", *str(refusal).strip().splitlines()[:1]])
    reason = f"its custom derivative refuses some operand ({words.removesuffix(':')})"
    labelling.pin_all(equation, values, reason)


def _label(
    labelling: Labelling,
    equation: JaxprEqn,
    inputs: Sequence[Value],
    read: Callable[[JaxprEqn], Any],
    vouch: Callable[..., list[Body]],
) -> Outcome:
    """Label the function; in discovery also what `read` makes of its derivative, by `vouch`."""
    body = _primal(labelling, equation, inputs)
    if labelling.discover and not labelling.silent:
        try:
            jaxprs = read(equation)
        except Exception as refusal:  # the user's own code
            _freeze(labelling, equation, [*inputs, *body.outputs], refusal)
        else:
            with labelling.scope(silent=True):
                derived = vouch(labelling, equation, jaxprs, inputs, body.outputs)
            _pin_means(labelling, [body, *derived])
    return Outcome(body.outputs, (body,))


def _tangents(
    labelling: Labelling,
    equation: JaxprEqn,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
) -> list[Body]:
    tangents = [inputs[i] for i in inexact(equation.invars)]
    expected = [*outputs, *(outputs[i] for i in inexact(equation.outvars))]
    return [_vouch(labelling, equation, jaxpr, [*inputs, *tangents], expected)]


def _passes(
    labelling: Labelling,
    equation: JaxprEqn,
    jaxprs: tuple[ClosedJaxpr, ClosedJaxpr],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
) -> list[Body]:
    by = [inputs[i] for i in inexact(equation.invars)]
    cotangents = [outputs[i] for i in inexact(equation.outvars)]
    forward = _vouch(labelling, equation, jaxprs[0], inputs, outputs)
    residuals = forward.outputs[len(outputs) :]
    return [forward, _vouch(labelling, equation, jaxprs[1], [*residuals, *cotangents], by)]


def custom_jvp(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the function; in discovery also its tangents, with the same labels."""
    return _label(labelling, equation, inputs, jvp_jaxpr, _tangents)


def custom_vjp(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the function; in discovery also its forward and backward passes."""
    return _label(labelling, equation, inputs, vjp_jaxprs, _passes)


def _gates(rewriting: Rewriting) -> tuple[Array, ...]:
    return () if rewriting.gate is None else tuple(rewriting.gate.arrays)


def _given(rewriting: Rewriting, gates: Sequence[Array]) -> Rewriting:
    """Return a rewriting with gates that are operands of the call, not values it closes over."""
    gate = rewriting.gate
    return rewriting if gate is None else replace(rewriting, gate=gate.given(gates))


def _slots(rewriting: Rewriting, axes: Any) -> np.ndarray:
    slots = [np.zeros(0, np.int64)]
    if rewriting.gate is not None:
        slots += [rewriting.gate.slots[axis.labels] for axis in axes if axis.labels is not None]
    return np.concatenate(slots)


def _refuse(rewriting: Rewriting, node: Node, wanted: Sequence[bool]) -> None:
    """Raise where a gradient is asked for by gates that act inside the call."""
    gate = rewriting.gate
    if gate is None or not any(wanted):
        return
    acting = gate.owners(_slots(rewriting, rewriting.summed(node)))
    names = [gate.names[number] for number in sorted(acting) if wanted[number]]
    if names:
        raise ValueError(
            f"a user's derivative rule knows of no gates, but the gates of {names} act inside the "
            f"custom derivative at {source_line(node.equation)}; differentiate by the gates of "
            "graph.graded alone, and score the other groups by magnitude"
        )


def _dense(tangent: Array) -> Array:
    if isinstance(tangent, SymbolicZero):
        return jnp.zeros(tangent.shape, tangent.dtype)
    return tangent


def rebind_custom_jvp(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Rebuild the function with its own tangents on fewer channels, or with gates."""
    body, equation, gates = node.bodies[0], node.equation, _gates(rewriting)
    positions, results = inexact(equation.invars), inexact(equation.outvars)
    inputs = [marks(rewriting, value) for value in node.inputs]
    outputs = [marks(rewriting, value) for value in node.outputs]
    function = jax.custom_jvp(lambda gates, *values: _given(rewriting, gates)(body, values))

    def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Array], list[Array]]:
        (given, *values), (by_gates, *directions) = primals, tangents
        _refuse(rewriting, node, [not isinstance(one, SymbolicZero) for one in by_gates])
        derivative, smaller = rewrite_derivative(
            _given(rewriting, given),
            jvp_jaxpr(equation),
            [*inputs, *(inputs[i] for i in positions)],
            [*outputs, *(outputs[i] for i in results)],
        )
        made = smaller(derivative, [*values, *(_dense(directions[i]) for i in positions)])
        made, slopes = made[: len(outputs)], made[len(outputs) :]
        return made, fill([_zero_tangent(value) for value in made], results, slopes)

    function.defjvp(jvp, symbolic_zeros=bool(gates))
    return list(function(gates, *arrays))


def _zero_tangent(value: Array) -> Array:
    if is_inexact(jax.typeof(value)):
        return jnp.zeros_like(value)
    return np.zeros(value.shape, jax.dtypes.float0)


def rebind_custom_vjp(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Rebuild the function with its own forward and backward passes, on fewer channels or gated."""
    body, equation, gates = node.bodies[0], node.equation, _gates(rewriting)
    positions, results = inexact(equation.invars), inexact(equation.outvars)
    inputs = [marks(rewriting, value) for value in node.inputs]
    outputs = [marks(rewriting, value) for value in node.outputs]
    leaving = _slots(rewriting, [axis for value in node.outputs for axis in value.axes])
    function = jax.custom_vjp(lambda gates, *values: _given(rewriting, gates)(body, values))

    def passes(given: Sequence[Array]) -> tuple[tuple[Body, Rewriting], tuple[Body, Rewriting]]:
        forward_jaxpr, backward_jaxpr = vjp_jaxprs(equation)
        first = _given(rewriting, given)
        second = first if first.gate is None else replace(first, gate=first.gate.binary(leaving))
        forward, smaller = rewrite_derivative(first, forward_jaxpr, inputs, outputs)
        residuals = [marks(smaller, value) for value in forward.outputs[len(outputs) :]]
        known = [*residuals, *(outputs[i] for i in results)]
        expected = [inputs[i] for i in positions]
        return (forward, smaller), rewrite_derivative(second, backward_jaxpr, known, expected)

    def run_forward(given: Sequence[Any], *values: Any) -> tuple[list[Array], Any]:
        if gates:  # with symbolic zeros, operands come with whether a gradient is asked for
            _refuse(rewriting, node, [one.perturbed for one in given])
            given, values = jax.custom_derivatives.custom_vjp_primal_tree_values((given, values))
        forward, smaller = passes(given)[0]
        made = smaller(forward, values)
        return made[: len(outputs)], (given, made[len(outputs) :])

    def run_backward(saved: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        given, residuals = saved
        backward, smaller = passes(given)[1]
        made = smaller(backward, [*residuals, *(_dense(cotangents[i]) for i in results)])
        if smaller.gate is not None:
            made = [smaller.gate.scaled(*pair) for pair in zip(made, backward.outputs, strict=True)]
        return (None, *fill([None] * len(equation.invars), positions, made))

    function.defvjp(run_forward, run_backward, symbolic_zeros=bool(gates))
    return list(function(gates, *arrays))


RULES = {
    "custom_jvp_call": Rule(custom_jvp, rebind_custom_jvp),
    "custom_vjp_call": Rule(custom_vjp, rebind_custom_vjp),
}
