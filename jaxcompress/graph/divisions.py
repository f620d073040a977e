"""What divides a sum: followed through types and shapes, square roots, calls and steps of scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import is_literal, scan_counts
from jaxcompress.graph.scalars import SAME, Scalar
from jaxcompress.graph.symbolic import is_symbolic, quotient

if TYPE_CHECKING:
    from jaxcompress.graph.interpret import Body, Node, Rule

__all__ = ["Divided", "Scope", "divisions"]

PASSING = SAME | {"neg"}
ROOTS = {"sqrt": 0.5, "rsqrt": -0.5}


class Divided(NamedTuple):
    """What a program divides a sum by.

    Attributes:
        by: the number, 1 where it is not divided.
        ddof: the k of a mean, which divides by the number of summands less k; None of other sums.
    """

    by: float
    ddof: int | None = None


@dataclass(frozen=True)
class Scope:
    """A labelled jaxpr and the call in which it stands.

    Attributes:
        body: the jaxpr.
        rules: the rule of an equation.
        parent: where the call stands, None of the outermost jaxpr.
        caller: the call.
    """

    body: Body
    rules: Callable[[JaxprEqn], Rule | None]
    parent: Scope | None = None
    caller: Node | None = None

    @cached_property
    def calls(self) -> dict[int, Scope]:
        """The jaxprs that are merely called, perhaps for each step, by the position of the call."""
        return {
            index: Scope(node.bodies[0], self.rules, self, node)
            for index, node in enumerate(self.body.nodes)
            if node.bodies and (rule := self.rules(node.equation)) is not None and rule.is_call
        }

    @cached_property
    def users(self) -> Mapping[Any, Sequence[int]]:
        """The positions of the equations that read a variable."""
        users: dict[Any, dict[int, None]] = defaultdict(dict)
        for index, node in enumerate(self.body.nodes):
            for atom in node.equation.invars:
                if not is_literal(atom):
                    users[atom][index] = None
        return {variable: list(positions) for variable, positions in users.items()}

    def results(self, variable: Any) -> list[int]:
        """Return at which positions the jaxpr returns a variable."""
        outputs = self.body.jaxpr.jaxpr.outvars
        return [place for place, atom in enumerate(outputs) if atom is variable]


class _Power(NamedTuple):
    """A value that is `(sum x left / count) ** power`.

    Attributes:
        count: the number of summands.
        left: by what it must still be divided to be a mean.
        power: 1, or 1/2 after a square root.
        tolerance: of `left`, relative: the rounding of what divided it.
        is_whole: whether nothing was added to it, which would be divided too.
    """

    count: Array
    left: Array
    power: float = 1.0
    tolerance: float = 1e-6
    is_whole: bool = True

    @property
    def by(self) -> float:
        """What the sum has been divided by; 1 where that is no number."""
        return 1.0 if is_symbolic(self.count, self.left) else self.count / self.left

    def times(self, number: Any, exponent: float) -> _Power | None:
        """Return this x number ** exponent; None where that cannot be said of the sum."""
        if is_symbolic(self.left, number):
            whole = quotient(self.left, number) if (self.power, exponent) == (1, -1) else None
            return None if whole is None else self._replace(left=whole)
        size = abs(float(number))
        if not 0 < size < float("inf"):
            return None
        is_rounded = jnp.issubdtype(number.dtype, jnp.inexact)
        rounding = float(jnp.finfo(number.dtype).eps) if is_rounded else 0.0
        left = self.left * size ** (exponent / self.power)
        return self._replace(left=left, tolerance=max(self.tolerance, rounding))

    def ddof(self, less: float) -> int | None:
        """Return the k of a division by `count - k` that is complete; None where it is not."""
        if is_symbolic(self.left) or not self.is_whole:
            return None
        if isclose(self.left, 1.0, rel_tol=self.tolerance):
            return 0
        # Of numbers that the program does not compute as n - k, only n - 1 > 1 is taken for one.
        k, spare = (int(less), 0) if less >= 1 else (1, 1)
        if is_symbolic(self.count) or k >= self.count - spare:
            return None
        is_less = isclose(self.left, self.count / (self.count - k), rel_tol=self.tolerance)
        return k if is_less else None


def divisions(scope: Scope, variable: Any, count: Array) -> list[Divided]:
    """Return what each use of a sum divides it by in the end.

    Args:
        scope: where the sum stands.
        variable: its result.
        count: the number of its summands.
    """
    return list(_uses(scope, variable, _Power(count, count)))


def _uses(scope: Scope, variable: Any, power: _Power) -> Iterator[Divided]:
    for index in scope.users.get(variable, ()):
        if index in scope.calls:
            yield from _inside(scope, index, variable, power)
        else:
            yield from _use(scope, scope.body.nodes[index], variable, power)
    for place in scope.results(variable):
        if scope.parent is None or scope.caller is None or _is_state(scope.caller, place, True):
            yield Divided(power.by)
        else:
            yield from _uses(scope.parent, scope.caller.equation.outvars[place], power)


def _inside(scope: Scope, index: int, variable: Any, power: _Power) -> Iterator[Divided]:
    """Follow a value into a call, to each operand that it is."""
    inner, node = scope.calls[index], scope.body.nodes[index]
    names = inner.body.jaxpr.jaxpr.invars
    for place, (atom, name) in enumerate(zip(node.equation.invars, names, strict=True)):
        if atom is variable:
            is_state = _is_state(node, place, False)
            yield from [Divided(power.by)] if is_state else _uses(inner, name, power)


def _is_state(node: Node, place: int, is_result: bool) -> bool:
    """Tell whether an operand or a result is what the steps of a scan hand on."""
    if node.equation.primitive.name != "scan":
        return False
    constants, carry = scan_counts(node.equation)
    return 0 <= place - (0 if is_result else constants) < carry


def _use(scope: Scope, node: Node, variable: Any, power: _Power) -> Iterator[Divided]:
    name = node.equation.primitive.name
    after = power if name in PASSING else None
    if name in ("add", "sub") and power.is_whole:
        after = power._replace(is_whole=False)
    if name in ROOTS and not is_symbolic(power.count, power.left):
        after = power._replace(power=power.power * ROOTS[name])
    scalar, sign, exponent = _factor(node, variable)
    if scalar is not None:
        after = power._replace(power=power.power * sign).times(scalar.number, exponent)
        is_other = after is not None and after.left != power.left
        if after is not None and is_other and (ddof := after.ddof(scalar.less)) is not None:
            yield Divided(after.by, ddof)
            return
    if after is None:
        yield Divided(power.by)
    else:
        yield from _uses(scope, node.equation.outvars[0], after)


def _factor(node: Node, variable: Any) -> tuple[Scalar | None, int, int]:
    """Return s, p and q of a result that is variable ** p x s ** q; None, ... of any other."""
    name, atoms = node.equation.primitive.name, node.equation.invars
    if name not in ("mul", "div"):
        return None, 1, 1
    place = int(atoms[0] is not variable)
    scalar = node.inputs[1 - place].scalar if atoms[1 - place] is not variable else None
    return (scalar, 1, 1) if name == "mul" else (scalar, -1 if place else 1, 1 if place else -1)
