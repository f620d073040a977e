"""Which groups may go as a whole: those of branches that the network goes on without.

Every array that depends on the inputs carries the groups without which it would not: where an axis
of one group's channels ends, in a contraction or padded with others, the result needs this group;
what is made of several arrays needs only what all of them need. So the width inside a residual
branch, the channels inside squeeze-excite and the keys of attention may all go, the width of a
chain may not: its output would be a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import scan_counts
from jaxcompress.graph.interpret import Body, Node, run
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules import rule_of

__all__ = ["Join", "dispensable", "joins"]

# A set of groups as bits; None for what does not depend on the inputs.
Needs = int | None
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


def dispensable(labelled: LabelledProgram, group_of: np.ndarray, picked: Sequence[int]) -> set[int]:
    """Return the groups without which every picked output still depends on the inputs.

    Args:
        labelled: the reading of the function.
        group_of: `int[labels]`, the position of each label's group, -1 for none.
        picked: positions of the outputs that count.
    """
    walk = _Walk(group_of)
    outputs = walk(labelled.body, _start(labelled))
    needed = [outputs[place] for place in picked]
    every = 0
    for one in [*needed, *walk.extremes]:
        every |= one or 0
    groups = {int(number) for number in np.unique(group_of[group_of >= 0])}
    if all(one is None for one in needed):
        return set()
    return {number for number in groups if not every >> number & 1}


def _start(labelled: LabelledProgram) -> list[Needs]:
    leaves = len(labelled.program.leaves)
    return [None if i < leaves else 0 for i in range(len(labelled.body.inputs))]


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
            if all(value is None for value in values):
                return [None] * len(node.outputs)
            if node.bodies:
                return self._nested(node, values)
            return [self._result(node, values)] * len(node.outputs)

        closed_over: list[Needs] = [None] * len(body.constants)
        return run(body.jaxpr, closed_over, needs, step, lambda atom: None)

    def _result(self, node: Node, values: Sequence[Needs]) -> Needs:
        rule = rule_of(node.equation)
        if rule is not None and rule.neutral is not None:
            self.extremes.append(self._groups(node.inputs) & ~self._groups(node.outputs))
        left = self._groups(node.outputs)
        pairs = zip(values, node.inputs, strict=True)
        needs = [v if v is None else v | (self._groups([value]) & ~left) for v, value in pairs]
        if node.equation.primitive.name in ADDITIONS and None not in needs:
            self._join(node, needs)
        return _common(needs)

    def _join(self, node: Node, needs: Sequence[Needs]) -> None:
        for branch in (0, 1):
            ended = (needs[branch] or 0) & ~(needs[1 - branch] or 0)
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
            return self._loop(body, values[:constants], state, values[constants + carry :])
        if name == "while":
            first, second = params["cond_nconsts"], params["body_nconsts"]
            return self._loop(body, values[first : first + second], values[first + second :], ())
        if name == "cond":
            branches = [self(branch, values[1:]) for branch in node.bodies]
            return [_all_of(each) for each in zip(*branches, strict=True)]
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
            after = [_all_of(pair) for pair in pairs]
            if after == list(state):
                return results
            state = after


def _common(values: Sequence[Needs]) -> Needs:
    """Return what all need of those that depend on the inputs."""
    needs: Needs = None
    for value in values:
        if value is not None:
            needs = value if needs is None else needs & value
    return needs


def _all_of(values: Sequence[Needs]) -> Needs:
    """Return what one or the other needs."""
    needs: Needs = None
    for value in values:
        if value is not None:
            needs = value if needs is None else needs | value
    return needs
