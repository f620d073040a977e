"""Rules of primitives that hold jaxprs: calls, `while`, branches and rematerialisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import closed, inner_jaxprs, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.rounds import rounds

__all__ = ["CALL", "RULES", "is_plain_call", "tie_values"]


MAPS = ("shard_map", "xla_pmap")


def is_plain_call(equation: JaxprEqn) -> bool:
    """Tell whether an equation just applies one jaxpr to its operands, without naming an axis."""
    jaxprs = inner_jaxprs(equation)
    if len(jaxprs) != 1 or equation.primitive.name in MAPS:
        return False
    inner = jaxprs[0].jaxpr
    pairs: list[tuple[Sequence[Any], Sequence[Any]]] = [
        (equation.invars, inner.invars),
        (equation.outvars, inner.outvars),
    ]
    return all(
        len(atoms) == len(variables)
        and all(shape_of(a) == shape_of(b) for a, b in zip(atoms, variables, strict=True))
        for atoms, variables in pairs
    )


def call(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the jaxpr as if its equations stood here."""
    body = labelling.enter(inner_jaxprs(equation)[0], inputs)
    return Outcome(body.outputs, (body,))


def rebind_call(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Run the jaxpr's equations in place of the call."""
    return rewriting(node.bodies[0], arrays)


def checkpoint(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the jaxpr; no unfinished permutation can be handed in or out."""
    outcome = call(labelling, equation, inputs)
    labelling.use(outcome.outputs)
    return outcome


def rebind_checkpoint(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Rematerialise the smaller function under the same policy."""
    params = node.equation.params
    smaller = jax.checkpoint(
        lambda *values: rewriting(node.bodies[0], values),
        prevent_cse=params["prevent_cse"],
        policy=params["policy"],
    )
    return smaller(*arrays)


def tie_values(
    labelling: Labelling, equation: JaxprEqn, left: Sequence[Value], right: Sequence[Value]
) -> None:
    """Tie the axes of two lists of values, pair by pair."""
    for one, other in zip(left, right, strict=True):
        for pair in zip(one.axes, other.axes, strict=True):
            labelling.tie(equation, *pair)


def while_loop(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label condition and body once and tie carries; rounds that are not known count as one."""
    params = equation.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    state = [Value(value.axes) for value in inputs[second:]]
    condition = labelling.enter(closed(params["cond_jaxpr"]), [*inputs[:first], *state])
    count = rounds(equation, inputs)
    with labelling.scope(None if count is None else Axis(count)):
        body = labelling.enter(closed(params["body_jaxpr"]), [*inputs[first:second], *state])
    labelling.use(body.outputs)
    tie_values(labelling, equation, state, body.outputs)
    return Outcome(state, (condition, body))


def rebind_while(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Loop over the smaller body."""
    params = node.equation.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    condition, body = node.bodies
    return lax.while_loop(
        lambda state: rewriting(condition, [*arrays[:first], *state])[0],
        lambda state: rewriting(body, [*arrays[first:second], *state]),
        list(arrays[second:]),
    )


def branch(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label every branch and tie their results; the cost is that of all branches."""
    operands = inputs[1:]
    bodies = [labelling.enter(closed(b), operands) for b in equation.params["branches"]]
    for body in bodies:
        labelling.use(body.outputs)
    for body in bodies[1:]:
        tie_values(labelling, equation, bodies[0].outputs, body.outputs)
    return Outcome([Value(value.axes) for value in bodies[0].outputs], bodies)


def rebind_branch(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Switch between the smaller branches."""
    functions = [
        lambda *values, body=body: rewriting(body, values)  # type: ignore[misc]
        for body in node.bodies
    ]
    return lax.switch(arrays[0], functions, *arrays[1:])


CALL = Rule(call, rebind_call, permutes=True, is_call=True)

RULES = {
    "checkpoint": Rule(checkpoint, rebind_checkpoint, is_call=True),
    "remat2": Rule(checkpoint, rebind_checkpoint, is_call=True),
    "while": Rule(while_loop, rebind_while),
    "cond": Rule(branch, rebind_branch),
}
