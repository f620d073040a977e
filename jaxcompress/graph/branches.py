"""Which groups may go as a whole, all at once: those of branches that the network goes on without.

Every array carries the groups without which it would not depend on the inputs, and those without
which it would be zero: where an axis of one group's channels ends, in a contraction or padded with
others, nothing is left of the operand. A sum needs what all its operands need, a product what makes
any of them zero. So the width inside a residual branch, the channels inside squeeze-excite (behind
a sigmoid, which is not zero) and the keys of attention may go, the width of a chain may not: its
output would be a constant. A parameter counts as not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jax.extend.core import Literal

from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import scan_counts
from jaxcompress.graph.interpret import Body, Node, run
from jaxcompress.graph.needs import Needs, constant, either, result
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.scalars import Scalar, scalar_of
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["Join", "dispensable", "joins"]

EMPTY = np.zeros(0, int)
ADDITIONS = ("add", "sub", "add_any")


class Join(NamedTuple):
    """An addition through which the network goes on without some groups.

    Attributes:
        node: the addition.
        branch: which operand needs the groups; the other one does not.
        groups: their positions.
    """

    node: Node
    branch: int
    groups: tuple[int, ...]


def joins(labelled: LabelledProgram, group_of: np.ndarray) -> list[Join]:
    """Return the additions, outside of loops, at which branches end that groups lie in.

    Args:
        labelled: the reading of the function.
        group_of: as in `dispensable`.
    """
    walk = _Walk(group_of)
    walk(labelled.body, _start(labelled))
    return walk.joins


def dispensable(
    labelled: LabelledProgram, group_of: np.ndarray, picked: Sequence[int], widths: Sequence[int]
) -> list[int]:
    """Return groups without all of which every picked output still depends on the inputs.

    Of groups that can go one at a time but not together, the widest stays, the last of equals.

    Args:
        labelled: the reading of the function.
        group_of: `int[labels]`, the position of each label's group, -1 for none.
        picked: positions of the outputs that count.
        widths: of the groups.
    """
    lost = _lost(labelled, group_of, picked)
    alone = [number for number in range(len(widths)) if not lost >> number & 1]
    rest = sorted(alone, key=lambda number: (widths[number], number))

    def can_go(count: int) -> bool:
        together = np.isin(group_of, rest[:count])
        return not _lost(labelled, np.where(together, 0, -1), picked) & 1

    while rest and not can_go(len(rest)):
        fits, fails = 0, len(rest)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (middle, fails) if can_go(middle) else (fits, middle)
        rest.pop(fails - 1)
    return sorted(rest)


def _lost(labelled: LabelledProgram, group_of: np.ndarray, picked: Sequence[int]) -> int:
    """Return the groups without one of which some picked output is a constant, as a set."""
    walk = _Walk(group_of)
    outputs = walk(labelled.body, _start(labelled))
    needed = [outputs[place].inputs for place in picked if outputs[place].depends]
    every = 0 if needed else -1
    for one in [*needed, *walk.extremes]:
        every |= one
    return every


def _start(labelled: LabelledProgram) -> list[Needs]:
    leaves = len(labelled.program.leaves)
    return [constant(False) if i < leaves else Needs(0) for i in range(len(labelled.body.inputs))]


@dataclass(frozen=True)
class _Walk:
    """Follows needs through a labelled jaxpr; local to one reading of it.

    Attributes:
        group_of: `int[labels]`, the position of each label's group.
        extremes: groups of which a maximum is taken, as sets: there is none of no channels.
        joins: the additions at which branches end.
    """

    group_of: np.ndarray
    extremes: list[int] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)

    def __call__(self, body: Body, needs: Sequence[Needs]) -> list[Needs]:
        def step(index: int, _: object, values: list[Needs]) -> list[Needs]:
            node = body.nodes[index]
            if node.bodies:
                return self._nested(node, values)
            return self._results(node, values)

        closed_over = [_constant(value) for value in body.constants]
        return run(body.jaxpr, closed_over, needs, step, _literal)

    def _results(self, node: Node, values: Sequence[Needs]) -> list[Needs]:
        rule, left = rule_of(node.equation), self._groups(node.outputs)
        if rule is not None and rule.neutral is not None:
            self.extremes.append(self._groups(node.inputs) & ~left)
        pairs = zip(values, node.inputs, strict=True)
        needs = [one.without(self._groups([value]) & ~left) for one, value in pairs]
        if node.equation.primitive.name in ADDITIONS and all(one.depends for one in needs):
            self._join(node, needs)
        made = result(node.equation, needs)
        return [made if value.scalar is None else _constant(value) for value in node.outputs]

    def _join(self, node: Node, needs: Sequence[Needs]) -> None:
        for branch in (0, 1):
            ended = needs[branch].inputs & ~needs[1 - branch].inputs
            places = tuple(i for i in range(ended.bit_length()) if ended >> i & 1)
            if places:
                self.joins.append(Join(node, branch, places))

    def _groups(self, values: Sequence[Value]) -> int:
        """Return the groups that some axis of the values is made of, as a set."""
        groups = 0
        for value in values:
            for axis in value.axes:
                numbers = self.group_of[axis.labels] if axis.labels is not None else EMPTY
                if numbers.size and numbers[0] >= 0 and (numbers == numbers[0]).all():
                    groups |= 1 << int(numbers[0])
        return groups

    def _nested(self, node: Node, values: Sequence[Needs]) -> list[Needs]:
        name, params, body = node.equation.primitive.name, node.equation.params, node.bodies[-1]
        if name == "scan":
            constants, carry = scan_counts(node.equation)
            state = values[constants : constants + carry]
            results = self._loop(body, values[:constants], state, values[constants + carry :])
            # Without any step, the state is what it was at first.
            steps = 0 if node.steps is None else self._groups([Value((node.steps,))])
            same = [
                one if start.depends else one.without(steps)
                for start, one in zip(state, results, strict=False)
            ]
            return [*same, *results[carry:]]
        if name == "while":
            first, second = params["cond_nconsts"], params["body_nconsts"]
            return self._loop(body, values[first : first + second], values[first + second :], ())
        if name == "cond":
            branches = [self(branch, values[1:]) for branch in node.bodies]
            return [either(each) for each in zip(*branches, strict=True)]
        return self(body, values)

    def _loop(
        self,
        body: Body,
        constants: Sequence[Needs],
        state: Sequence[Needs],
        slices: Sequence[Needs],
    ) -> list[Needs]:
        """Follow rounds of a body until its state needs the same as before."""
        outside = len(self.joins)
        while True:
            results = self(body, [*constants, *state, *slices])
            del self.joins[outside:]
            pairs = zip(state, results[: len(state)], strict=True)
            after = [either(pair) for pair in pairs]
            if after == list(state):
                return [*after, *results[len(state) :]]
            state = after


def _literal(atom: Literal) -> Needs:
    return constant(_is_zero(scalar_of(atom.val)))


def _constant(value: Value) -> Needs:
    return constant(_is_zero(value.scalar))


def _is_zero(scalar: Scalar | None) -> bool:
    return scalar is not None and not is_symbolic(scalar.number) and not scalar.number
