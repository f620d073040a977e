"""Where two branches are added: the widths that residual streams run along.

Every axis of every array that depends on the inputs carries its makers: the convolutions, dots and
table look-ups that made its channels. An addition whose operands have channels of different makers
joins two branches. So products and gates join nothing, nor biases (variables alone), nor what is
subtracted after a reduction over the same axis (no makers) or over others (the same makers), nor
two element-wise functions of one array.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.axes import Axis, Labels
from jaxcompress.graph.internals import scan_counts
from jaxcompress.graph.interpret import Body, Node, run
from jaxcompress.graph.passing import sources
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["added_labels"]

ADDITIONS = ("add", "sub", "add_any", "scatter-add", "scatter-sub", "scatter_add")
MAKERS = "dot_general ragged_dot_general conv_general_dilated gather dynamic_slice".split()
# Bits of a set of makers: 0 for the variables, then two for each maker, one where it ran in this
# round of a loop and one where it ran in an earlier round.
VARIABLES = 1


class Origin(NamedTuple):
    """Where one array comes from.

    Attributes:
        depends: whether it depends on the inputs, or on the variables alone.
        makers: a set of makers per axis, as bits; empty where the axis is broadcast or fixed.
    """

    depends: bool
    makers: tuple[int, ...]


def added_labels(labelled: LabelledProgram) -> np.ndarray:
    """Return `bool[labels]`, those of axes along which an addition joins two branches."""
    body, leaves = labelled.body, len(labelled.program.leaves)
    numbers = {id(node): 1 << (2 * n + 1) for n, node in enumerate(_makers(body))}
    walk, origins = _Walk(numbers), [_variable(len(value.axes)) for value in body.inputs[:leaves]]
    for place, value in enumerate(body.inputs[leaves:], len(numbers)):
        bit = 1 << (2 * place + 1)
        makers = tuple(0 if _is_fixed(axis) else bit for axis in value.axes)
        origins.append(Origin(True, makers))
    walk(body, origins)
    added = np.zeros(labelled.labelling.count, bool)
    for labels in walk.added:
        added[labels] = True
    return added


def _makers(body: Body) -> Iterator[Node]:
    for node in body.nodes:
        if node.equation.primitive.name in MAKERS:
            yield node
        for inner in node.bodies:
            yield from _makers(inner)


def _variable(rank: int) -> Origin:
    return Origin(False, (VARIABLES,) * rank)


def _is_fixed(axis: Axis) -> bool:
    return axis.size == 1 or axis.labels is None


def _union(sets: Iterable[int]) -> int:
    union = 0
    for one in sets:
        union |= one
    return union


def _either(left: Origin, right: Origin) -> Origin:
    """Return the origin of what is one array or the other."""
    pairs = zip(left.makers, right.makers, strict=True)
    return Origin(left.depends or right.depends, tuple(one | other for one, other in pairs))


def _earlier(origin: Origin, inside: int) -> Origin:
    """Return the origin that a result of a loop's body has in the next round."""
    makers = ((one & ~inside) | ((one & inside) << 1) for one in origin.makers)
    return Origin(origin.depends, tuple(makers))


@dataclass(frozen=True)
class _Walk:
    """Follows origins through a labelled jaxpr; local to one reading of it.

    Attributes:
        bits: the bit of each maker, by the identity of its node.
        added: the labels of the axes along which branches were joined so far.
    """

    bits: Mapping[int, int]
    added: list[Labels] = field(default_factory=list)

    def __call__(self, body: Body, origins: Sequence[Origin]) -> list[Origin]:
        def step(index: int, _: object, values: list[Origin]) -> list[Origin]:
            node = body.nodes[index]
            if not any(value.depends for value in values):
                return [_variable(len(value.axes)) for value in node.outputs]
            if node.bodies:
                return self._nested(node, values)
            return [self._result(node, values, place) for place in range(len(node.outputs))]

        closed_over = [_variable(len(value.axes)) for value in body.constants]
        return run(
            body.jaxpr, closed_over, origins, step, lambda atom: _variable(len(atom.aval.shape))
        )

    def _result(self, node: Node, values: Sequence[Origin], place: int) -> Origin:
        name, makers = node.equation.primitive.name, []
        for axis, carried in zip(node.outputs[place].axes, sources(node, place), strict=True):
            sets = [
                values[operand].makers[dimension]
                for operand, dimension in carried
                if not _is_fixed(node.inputs[operand].axes[dimension])
            ]
            union = 0 if _is_fixed(axis) else _union(sets)
            if union == VARIABLES and name in MAKERS:
                union = self.bits[id(node)]
            if union and name in ADDITIONS and len({one & ~VARIABLES for one in sets} - {0}) > 1:
                assert axis.labels is not None
                self.added.append(axis.labels)
            makers.append(union)
        return Origin(True, tuple(makers))

    def _nested(self, node: Node, values: Sequence[Origin]) -> list[Origin]:
        name, params, body = node.equation.primitive.name, node.equation.params, node.bodies[-1]
        if name == "scan":
            constants, carry = scan_counts(node.equation)
            start, scanned = values[constants : constants + carry], values[constants + carry :]
            slices = [Origin(value.depends, value.makers[1:]) for value in scanned]
            length = params["length"]
            rounds = sys.maxsize if is_symbolic(length) else max(length, 1)
            results = self._loop(body, values[:constants], start, slices, rounds)
            stacked = [Origin(value.depends, (0, *value.makers)) for value in results[carry:]]
            return [*results[:carry], *stacked]
        if name == "while":
            # The condition is left out: it says when to stop and hands no branch on.
            first, second = params["cond_nconsts"], params["body_nconsts"]
            start = values[first + second :]
            results = self._loop(body, values[first : first + second], start, (), sys.maxsize)
            return [_either(*pair) for pair in zip(start, results, strict=True)]
        if name == "cond":
            branches = [self(branch, values[1:]) for branch in node.bodies]
            merged = branches[0]
            for other in branches[1:]:
                merged = [_either(*pair) for pair in zip(merged, other, strict=True)]
            return merged
        return self(body, values)

    def _loop(
        self,
        body: Body,
        constants: Sequence[Origin],
        state: Sequence[Origin],
        slices: Sequence[Origin],
        rounds: int,
    ) -> list[Origin]:
        """Follow rounds of a body, at most as many as it runs, until its carry brings no news."""
        inside = _union(self.bits[id(node)] for node in _makers(body))
        results: list[Origin] = []
        for _ in range(rounds):
            results = self(body, [*constants, *state, *slices])
            pairs = zip(state, results[: len(state)], strict=True)
            after = [_either(before, _earlier(result, inside)) for before, result in pairs]
            if after == list(state):
                break
            state = after
        return results
