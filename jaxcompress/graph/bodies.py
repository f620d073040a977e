"""Rewriting the jaxprs inside an equation: bodies of loops, branches and `jax.checkpoint`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import bind, closed, inner_jaxprs

__all__ = ["Run", "bind_rewritten"]

Run = Callable[[ClosedJaxpr, Sequence[Array]], Sequence[Array]]
"""`run(jaxpr, values)` gives what a jaxpr does, in another way."""
CALLS = ("jit", "pjit", "closed_call")
BODIES = ("scan", "while", "cond", "checkpoint", "remat2")


def bind_rewritten(equation: JaxprEqn, values: Sequence[Array], run: Run) -> Sequence[Array]:
    """Apply an equation to values, with `run` in the place of every jaxpr in it.

    Calls are run where they stand; loops, branches and `jax.checkpoint` stay what they are. What
    else holds a jaxpr, such as `jax.shard_map` or a rule for derivatives, is applied as it is.

    Args:
        equation: of a jaxpr.
        values: its operands.
        run: what is done instead.
    """
    name = equation.primitive.name
    if name in CALLS:
        return run(inner_jaxprs(equation)[0], values)
    return bind(equation, values, _rewritten(equation.params, run) if name in BODIES else None)


def _rewritten(params: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Return those of an equation's parameters that hold jaxprs, rewritten."""
    changed = {}
    for name, parameter in params.items():
        entries = parameter if isinstance(parameter, tuple) else (parameter,)
        if entries and all(hasattr(entry, "eqns") for entry in entries):
            bodies = tuple(_body(entry, run) for entry in entries)
            changed[name] = bodies if isinstance(parameter, tuple) else bodies[0]
    return changed


def _body(body: Any, run: Run) -> Any:
    whole = closed(body)
    made = jax.make_jaxpr(lambda *values: run(whole, values))(*whole.in_avals)
    if whole is body:
        return made
    # Some primitives hold a jaxpr without constants: one that has some stays as it is.
    return body if made.consts else made.jaxpr
