"""One rule per primitive: how it ties labels, and how it runs on fewer channels.

To support a new primitive, add one entry to the `RULES` of the file it belongs to.
"""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxcompress.graph.interpret import Rule
from jaxcompress.graph.rules import (
    control,
    derivatives,
    devices,
    effects,
    elementwise,
    indexing,
    joining,
    linear,
    random,
    reduction,
    reshape,
    scanning,
    shape,
)

__all__ = ["RULES", "rule_of"]

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **linear.RULES,
    **shape.RULES,
    **joining.RULES,
    **reshape.RULES,
    **reduction.RULES,
    **indexing.RULES,
    **random.RULES,
    **control.RULES,
    **scanning.RULES,
    **derivatives.RULES,
    **devices.RULES,
    **effects.RULES,
}


def rule_of(equation: JaxprEqn) -> Rule | None:
    """Return the rule of an equation's primitive; None where it is unknown."""
    rule = RULES.get(equation.primitive.name)
    return control.CALL if rule is None and control.is_plain_call(equation) else rule
