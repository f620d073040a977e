"""The rule of `scan`: stacked layers share one keep, and single steps may be left out.

A step is a channel of the scanned axis. Without it the loop is shorter; its gate g passes the state
on, `state + g (step(state) - state)`: 0 leaves the step out exactly, 1 takes it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import closed, scan_counts
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.origins import sliced
from jaxcompress.graph.rules.control import tie_values

__all__ = ["RULES"]


def scan(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the body once: all steps share one keep; tie carries, and what is scanned over."""
    params = equation.params
    constants, carry = scan_counts(equation)
    scanned = inputs[constants + carry :]
    axes = [value.axes[0] for value in scanned] or [Axis(params["length"])]
    steps = labelling.tie(equation, *axes)
    slices = [
        replace(value.rearranged(value.axes[1:], "slice"), origin=sliced(value.origin, equation))
        for value in scanned
    ]
    start = [Value(value.axes) for value in inputs[constants : constants + carry]]
    with labelling.scope(steps):
        body = labelling.enter(closed(params["jaxpr"]), [*inputs[:constants], *start, *slices])
    labelling.use(body.outputs)
    tie_values(labelling, equation, start, body.outputs[:carry])
    if carry:
        labelling.reduction(equation, [steps])
    stacked = [Value((steps, *value.axes)) for value in body.outputs[carry:]]
    return Outcome([*start, *stacked], (body,), steps if carry else None)


def rebind_scan(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Scan the smaller body, over the steps that are left."""
    params = node.equation.params
    constants, carry = scan_counts(node.equation)
    fixed, start = arrays[:constants], arrays[constants : constants + carry]
    is_linear = rewriting.gate is not None and rewriting.gate.is_linear
    scanned = list(arrays[constants + carry :])

    def step(
        state: list[Array], rows: tuple[list[Array], list[Array]]
    ) -> tuple[list[Array], list[Array]]:
        slices, gates = rows
        outputs = rewriting(node.bodies[0], [*fixed, *state, *slices])
        after, stacked = outputs[:carry], outputs[carry:]
        if gates:
            pairs = zip(gates, state, after, strict=True)
            after = [_passed_on(*each, is_linear) for each in pairs]
        return after, stacked

    leaves = jax.tree.leaves(scanned)  # a factorized kernel is a pair of arrays
    state, stacked = lax.scan(
        step,
        list(start),
        (scanned, _step_gates(rewriting, node, carry)),
        length=len(leaves[0]) if leaves else params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*state, *stacked]


def _step_gates(rewriting: Rewriting, node: Node, carry: int) -> list[Array]:
    """Return the gates of the steps, in the shape of each carried array; none where all are 1."""
    if rewriting.gate is None or node.steps is None or not rewriting.gates_steps(node):
        return []
    gates: list[Array] = []
    for value in node.outputs[:carry]:
        # As a sum over the steps would be gated, of ones that have the axes of the state.
        stacked = Value((node.steps, *value.axes))
        every = node._replace(inputs=[stacked], outputs=[value], bodies=(), steps=None)
        ones = jnp.ones((node.steps.size, *[1] * len(value.axes)))
        gates.extend(rewriting.gate(every, [(0,)], [ones]))
    return gates


def _passed_on(gate: Array, before: Array, after: Array, is_linear: bool) -> Array:
    if not jnp.issubdtype(after.dtype, jnp.inexact):
        return jnp.where(gate != 0, after, before)
    gate = gate.astype(jnp.promote_types(after.dtype, jnp.float32))
    # A step that is left out may overflow; a running maximum starts at -inf.
    after = _contained(after, gate == 0, is_linear)
    before = _contained(before, gate == 1, is_linear)
    return (gate * after + (1 - gate) * before).astype(after.dtype)


def _contained(array: Array, is_out: Array, is_linear: bool) -> Array:
    """Put 0 for what is not finite in an array that counts nothing: 0 x inf would be NaN.

    Of a tangent, for all of it.
    """
    is_gone = is_out if is_linear else is_out & ~jnp.isfinite(array)
    return jnp.where(is_gone, jnp.zeros_like(array), array)


RULES = {"scan": Rule(scan, rebind_scan, is_call=True)}
