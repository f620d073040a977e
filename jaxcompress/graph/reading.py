"""Reading a jaxpr: each primitive's rule says how axes of operands and results hang together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value, whole
from jaxcompress.graph.internals import is_key, located
from jaxcompress.graph.interpret import Body, Node, Outcome, Rule, run
from jaxcompress.graph.known import with_known
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.means import with_means
from jaxcompress.graph.origins import constant, with_origins
from jaxcompress.graph.scalars import scalar_of, with_scalars

__all__ = ["label", "unknown"]


def constants(labelling: Labelling, jaxpr: ClosedJaxpr) -> list[Value]:
    """Label the arrays that a jaxpr closes over: they can be sliced like leaves."""
    return [
        _constant(labelling, variable.aval, value)
        for variable, value in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True)
    ]


def _constant(labelling: Labelling, aval: Array, value: Array) -> Value:
    if is_key(aval.dtype):
        return whole(aval.shape)
    labelled = labelling.fresh_value(aval.shape, Kind.CONSTANT)
    labelled = replace(labelled, origin=constant(value), scalar=scalar_of(value))
    if not _is_exact(aval) or isinstance(value, jax.core.Tracer):
        return labelled
    return replace(labelled, indices=np.asarray(value))


def _literal(atom: Any) -> Value:
    known = whole(atom.aval.shape)
    known = replace(known, origin=constant(atom.val), scalar=scalar_of(atom.val))
    return replace(known, indices=np.asarray(atom.val)) if _is_exact(atom.aval) else known


def _is_exact(aval: Array) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.integer) or aval.dtype == bool


def label(
    labelling: Labelling,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Value],
    rules: Callable[[JaxprEqn], Rule | None],
) -> Body:
    """Label every axis of every array of a jaxpr, given those of its inputs."""
    nodes: list[Node] = []

    def step(index: int, equation: JaxprEqn, values: list[Value]) -> Sequence[Value]:
        equation, rule = located(equation, labelling.caller), rules(equation)
        with labelling.inside(equation):
            if rule is None or not rule.permutes:
                labelling.use(values)
            outcome = (unknown if rule is None else rule.label)(labelling, equation, values)
        outcome = outcome._replace(outputs=with_known(equation, values, outcome.outputs))
        outcome = outcome._replace(outputs=with_scalars(equation, values, outcome.outputs))
        outcome = outcome._replace(outputs=with_origins(equation, values, outcome))
        nodes.append(Node(equation, values, outcome.outputs, outcome.bodies, outcome.steps))
        if not outcome.bodies:
            labelling.count_reads(values, outcome.outputs)
        return outcome.outputs

    closed_over = constants(labelling, jaxpr)
    outputs = run(jaxpr, closed_over, inputs, step, _literal)
    body, caller = Body(jaxpr, inputs, closed_over, nodes, outputs), labelling.caller
    rule = None if caller is None else rules(caller)
    # What is merely called is looked at together with its caller, which may divide its sums.
    return body if rule is not None and rule.is_call else with_means(body, rules)


def unknown(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Freeze everything that a primitive without a rule touches."""
    reason = f"the primitive '{equation.primitive.name}' has no rule"
    labelling.pin_all(equation, inputs, reason)
    return Outcome([whole(getattr(v.aval, "shape", ()), reason) for v in equation.outvars])
