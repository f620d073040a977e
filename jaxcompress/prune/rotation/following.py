"""Following a stream through a program: what turns with it, equation by equation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import scan_counts, shape_of
from jaxcompress.graph.interpret import Body, Node, run
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.prune.rotation.elementwise import elementwise, is_elementwise
from jaxcompress.prune.rotation.record import Record
from jaxcompress.prune.rotation.states import TURNING, Multiple, State, Status, plain
from jaxcompress.prune.rotation.structure import MOVES, contraction, moved, summed

__all__ = ["follow"]

LARGEST = 1 << 16
"""Entries of the largest constant that is looked through."""
CONTRACTIONS = ("dot_general", "conv_general_dilated")


def follow(
    labelled: LabelledProgram,
    axes: Mapping[str, Collection[int]],
    matrices: Collection[str] = (),
    ones: Collection[str] = (),
    is_training: bool = False,
) -> Record:
    """Find out how a function computes with leaves that turn.

    Args:
        labelled: the function's program.
        axes: those of each leaf along the stream, by path.
        matrices: the scales whose product with channels is a matrix's.
        ones: the scales that are 1, having gone into kernels.
        is_training: whether entries may be dropped at random.
    """
    walk = _Walk(Record(frozenset(matrices), is_training))
    states = []
    for path, value in zip(labelled.program.leaves, labelled.body.inputs, strict=False):
        sizes = [axis.size for axis in value.axes]
        turning = set() if path in ones else set(axes.get(path, ()))
        same = set(axes.get(path, ())) - turning
        statuses = [
            Status.TURNS if place in turning else Status.SAME if place in same else status
            for place, status in enumerate(plain(sizes).axes)
        ]
        states.append(_of_leaf(State(tuple(statuses)), value))
    inputs = labelled.body.inputs[len(states) :]
    states += [plain([axis.size for axis in value.axes]) for value in inputs]
    outputs = walk(labelled.body, states)
    if not is_training and any(state.turns for state in outputs):
        walk.record.problems["its outputs"] = "they hold channels of the stream"
    return walk.record


def _of_leaf(state: State, value: Value) -> State:
    """Note the leaf that a state is of, where it is one number for each channel."""
    long = [status for status, axis in zip(state.axes, value.axes, strict=True) if axis.size > 1]
    is_vector = value.leaf is not None and long == [Status.TURNS]
    return state._replace(multiple=Multiple(str(value.leaf)) if is_vector else None)


@dataclass(frozen=True)
class _Walk:
    """Follows states through jaxprs; local to one reading.

    Attributes:
        record: what was found out.
    """

    record: Record

    def __call__(self, body: Body, states: Sequence[State]) -> list[State]:
        def step(index: int, _: object, values: list[State]) -> list[State]:
            return self._step(body.nodes[index], values)

        closed = zip(body.jaxpr.consts, body.constants, strict=True)
        constants = [_constant(array) for array, _ in closed]
        return run(body.jaxpr, constants, states, step, lambda atom: _constant(atom.val))

    def _step(self, node: Node, states: list[State]) -> list[State]:
        name = node.equation.primitive.name
        shapes = [shape_of(variable) for variable in node.equation.outvars]
        if node.bodies:
            if not any(state.turns for state in states):
                return [plain(shape) for shape in shapes]
            return self._nested(node, states)
        if name in MOVES:
            return moved(self.record, node, states)
        if name in CONTRACTIONS and any(state.turns for state in states):
            return [contraction(self.record, node, states)]
        if name == "reduce_sum":
            return [summed(self.record, node, states[0])]
        if is_elementwise(node):
            return [elementwise(self.record, node, states)]
        if any(state.turns for state in states):
            self.record.refuse(node, f"'{name}' acts on its channels")
        return [plain(shape) for shape in shapes]

    def _nested(self, node: Node, states: list[State]) -> list[State]:
        name = node.equation.primitive.name
        if name == "scan":
            return self._scan(node, states)
        if name == "while":
            return self._while(node, states)
        if name == "cond":
            branches = [self(body, states[1:]) for body in node.bodies]
            return [self._either(node, column) for column in zip(*branches, strict=True)]
        if name.startswith("custom_") or len(node.bodies[0].inputs) != len(states):
            self.record.refuse(node, f"'{name}' has rules of its own")
            return [plain(shape_of(variable)) for variable in node.equation.outvars]
        return self(node.bodies[0], states)

    def _scan(self, node: Node, states: list[State]) -> list[State]:
        constants, carry = scan_counts(node.equation)
        body, first = node.bodies[0], constants + carry
        for place, state in enumerate(states[first:]):
            if state.axes[0] in TURNING:
                self.record.refuse(node, "it is scanned over along its channels")
                states[first + place] = plain(shape_of(node.equation.invars[first + place]))
        slices = [
            _of_leaf(State(state.axes[1:], number=state.number), value)
            for state, value in zip(states[first:], body.inputs[first:], strict=True)
        ]
        results = self._loop(node, body, states[:constants], states[constants:first], slices)
        stacked = [State((Status.VARIES, *state.axes)) for state in results[carry:]]
        return [*results[:carry], *stacked]

    def _while(self, node: Node, states: list[State]) -> list[State]:
        params, body = node.equation.params, node.bodies[-1]
        first, second = params["cond_nconsts"], params["body_nconsts"]
        start = states[first + second :]
        results = self._loop(node, body, states[first : first + second], start, [])
        self(node.bodies[0], [*states[:first], *results])
        return results

    def _loop(
        self,
        node: Node,
        body: Body,
        fixed: Sequence[State],
        start: Sequence[State],
        slices: Sequence[State],
    ) -> list[State]:
        """Follow a body until its carry brings no news, then once for the record."""
        carry = [self._settled(node, state) for state in start]
        probe = replace(self, record=Record(self.record.matrices, self.record.is_training))
        for _ in range(len(start) + 2):
            after = probe(body, [*fixed, *carry, *slices])[: len(carry)]
            pairs = zip(carry, after, strict=True)
            together = [probe._either(node, pair) for pair in pairs]
            if together == carry:
                break
            carry = together
        results = self(body, [*fixed, *carry, *slices])
        pairs = zip(carry, results, strict=False)
        return [*(self._either(node, pair) for pair in pairs), *results[len(carry) :]]

    def _either(self, node: Node, states: Iterable[State]) -> State:
        """Return what is known of an array that is one or the other."""
        every = [self._settled(node, state) for state in states]
        turned = [state for state in every if state.turns]
        counted = [state for state in every if state.turns or state.number != 0] or every
        axes = tuple(
            column[0] if len(set(column)) == 1 else Status.VARIES
            for column in zip(*(state.axes for state in counted), strict=True)
        )
        if turned and any(_turning(state.axes) != _turning(axes) for state in counted):
            self.record.refuse(node, "channels of it are handed on here and something else there")
        numbers = {state.number for state in every}
        return State(axes, number=numbers.pop() if len(numbers) == 1 else None)

    def _settled(self, node: Node, state: State) -> State:
        """Return what is handed on by a loop or branch: its scale has to be a matrix."""
        self.record.fail(node, state.scaled, "it is handed on by a loop or branch")
        scaled = (Status.TURNS if each is Status.SCALED else each for each in state.axes)
        return State(tuple(scaled), number=state.number)


def _turning(axes: Sequence[Status]) -> dict[int, Status]:
    return {place: status for place, status in enumerate(axes) if status in TURNING}


def _constant(array: Array) -> State:
    """Return the state of an array that the program holds."""
    shape = np.shape(array)
    is_number = hasattr(array, "dtype") and jnp.issubdtype(array.dtype, jnp.number)
    is_number |= isinstance(array, int | float)
    if isinstance(array, jax.core.Tracer) or not is_number or np.size(array) > LARGEST:
        return plain(shape)
    values = np.asarray(array).ravel()
    same = bool(values.size) and bool((values == values[0]).all())
    return plain(shape, float(values[0]) if same else None)
