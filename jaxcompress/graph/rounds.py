"""How often the body of a `while` runs: known where it counts up by a constant to a known number.

Elsewhere the FLOPs of one round are counted; of a `cond`, those of all branches. `estimates` names
the lines where that makes a cost something else than what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import closed, is_literal, source_line
from jaxcompress.graph.interpret import Body, Node
from jaxcompress.graph.scalars import scalar_of
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["estimates", "rounds", "show_estimates"]

CONTRACTIONS = ("conv_general_dilated", "dot_general", "ragged_dot_general")


def rounds(equation: JaxprEqn, inputs: Sequence[Value]) -> int | None:
    """Return how often a `while` runs its body, None where that is not known before it runs.

    It is where the condition is `counter < bound` or `counter <= bound`, the body adds a constant
    to the counter and leaves the bound alone, and both are known at the start: `fori_loop`.

    Args:
        equation: the `while`.
        inputs: its operands.
    """
    condition = closed(equation.params["cond_jaxpr"]).jaxpr
    if len(condition.eqns) != 1 or condition.eqns[0].primitive.name not in ("lt", "le"):
        return None
    (test,) = condition.eqns
    if test.outvars[0] is not condition.outvars[0]:
        return None
    counter, bound = (_start_and_step(equation, inputs, atom) for atom in test.invars)
    if counter is None or bound is None or bound[1] != 0 or not counter[1] > 0:
        return None
    steps = (bound[0] - counter[0]) / counter[1]
    return max(ceil(steps) if test.primitive.name == "lt" else floor(steps) + 1, 0)


def _start_and_step(
    equation: JaxprEqn, inputs: Sequence[Value], atom: Any
) -> tuple[float, float] | None:
    """Return what an operand of the condition is at first, and what each round adds to it."""
    if is_literal(atom):
        return _number(scalar_of(atom.val), 0.0)
    params = equation.params
    first, second = params["cond_nconsts"], params["body_nconsts"]
    place = next(
        i for i, name in enumerate(closed(params["cond_jaxpr"]).jaxpr.invars) if name is atom
    )
    if place < first:
        return _number(inputs[place].scalar, 0.0)
    step = _step(closed(params["body_jaxpr"]).jaxpr, second, place - first)
    return None if step is None else _number(inputs[second + place].scalar, step)


def _number(scalar: Any, step: float) -> tuple[float, float] | None:
    if scalar is None or is_symbolic(scalar.number):
        return None
    return float(scalar.number), step


def _step(body: Any, constants: int, place: int) -> float | None:
    """Return what a body adds to one number of its state; None where it does anything else."""
    before, after = body.invars[constants + place], body.outvars[place]
    if before is after:
        return 0.0
    for equation in body.eqns:
        if equation.outvars[0] is after and equation.primitive.name == "add":
            left, right = equation.invars
            added = right if left is before else left if right is before else None
            scalar = scalar_of(added.val) if added is not None and is_literal(added) else None
            return None if scalar is None else float(scalar.number)
    return None


def estimates(body: Body) -> tuple[str, ...]:
    """Return the loops and branches whose FLOPs are not those of a run, by the line of code."""
    return tuple(dict.fromkeys(_estimates(body)))


def _estimates(body: Body) -> list[str]:
    lines = []
    for node in body.nodes:
        name = node.equation.primitive.name
        if name == "while" and rounds(node.equation, node.inputs) is None and _contracts(node):
            lines.append(f"a while loop for one round: {source_line(node.equation)}")
        elif name == "cond" and _contracts(node):
            lines.append(f"all branches of a cond: {source_line(node.equation)}")
        for inner in node.bodies:
            lines += _estimates(inner)
    return lines


def _contracts(node: Node) -> bool:
    inside = [inner for body in node.bodies for inner in body.nodes]
    return node.equation.primitive.name in CONTRACTIONS or any(map(_contracts, inside))


def show_estimates(lines: Sequence[str]) -> str:
    """Return words on FLOPs that a run may not have; empty where there are none.

    Example:
        >>> print(show_estimates(["a while loop for one round: model.py:7 (solve)"]))
        <BLANKLINE>
        counted, whatever a run computes:
          a while loop for one round: model.py:7 (solve)
    """
    if not lines:
        return ""
    more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
    head = "counted, whatever a run computes:"
    return "\n".join(["", head, *(f"  {line}" for line in lines[:8]), *more])
