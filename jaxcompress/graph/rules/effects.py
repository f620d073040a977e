"""Rules of what only looks on: prints, and callbacks without results, see what is left."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Value
from jaxcompress.graph.interpret import Outcome, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.reading import unknown

__all__ = ["RULES"]


def effect(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Leave the operands free, unless the host answers: what it computes of them is not known."""
    if equation.outvars:
        return unknown(labelling, equation, inputs)
    return Outcome([])


RULES = {name: Rule(effect) for name in ("debug_callback", "debug_print", "io_callback")}
