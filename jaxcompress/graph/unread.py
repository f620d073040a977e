"""Leaves that a function takes and never reads: nothing can be known of their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr

from jaxcompress.graph.internals import inner_jaxprs, is_literal
from jaxcompress.graph.program import Program

__all__ = ["read_leaves"]

Origin = int | None
"""The operand of the outermost jaxpr that an array is, or None for anything computed."""


def read_leaves(program: Program) -> set[str]:
    """Return the paths of the leaves that an operation reads; handing one on is no reading."""
    read: set[int] = set()
    _walk(program.jaxpr, range(len(program.jaxpr.jaxpr.invars)), read)
    return {path for number, path in enumerate(program.leaves) if number in read}


def _walk(jaxpr: ClosedJaxpr, origins: Sequence[Origin], read: set[int]) -> list[Origin]:
    """Note the operands that equations read; return which operand each result is."""
    known: dict[Any, Origin] = dict(zip(jaxpr.jaxpr.invars, origins, strict=True))

    def origin(atom: Any) -> Origin:
        return None if is_literal(atom) else known.get(atom)

    for equation in jaxpr.jaxpr.eqns:
        operands = [origin(atom) for atom in equation.invars]
        inner = inner_jaxprs(equation)
        if len(inner) == 1 and len(inner[0].jaxpr.invars) == len(operands):
            results = _walk(inner[0], operands, read)
            if len(results) == len(equation.outvars):
                known.update(zip(equation.outvars, results, strict=True))
        else:
            read.update(number for number in operands if number is not None)
    return [origin(atom) for atom in jaxpr.jaxpr.outvars]
