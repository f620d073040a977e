"""The only equation loop, and running what was labelled on smaller arrays.

`jaxcompress.graph.reading` labels a jaxpr: a tree of `Node`, one per equation. `Rewriting` walks it
with real arrays: an equation without a lost index is bound unchanged, others by a rule's `rebind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.deferred import Deferred
from jaxcompress.graph.divisions import Divided
from jaxcompress.graph.gates import Gates
from jaxcompress.graph.internals import bind, is_literal, source_line
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.selection import select

__all__ = ["Body", "Node", "Outcome", "Rewriting", "Rule", "run"]


class Outcome(NamedTuple):
    """What a rule says of one equation.

    Attributes:
        outputs: its results.
        bodies: the nested jaxprs that it labelled.
        steps: the axis along which it runs them, where single steps may be left out.
    """

    outputs: Sequence[Value]
    bodies: Sequence[Body] = ()
    steps: Axis | None = None


class Node(NamedTuple):
    """One labelled equation.

    Attributes:
        equation: the equation.
        inputs: its operands.
        outputs: its results.
        bodies: the jaxprs in it.
        steps: the axis along which it runs them, as in `Outcome`.
        divided: of a sum that the program divides by a number, what is known of that.
    """

    equation: JaxprEqn
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    bodies: Sequence[Body] = ()
    steps: Axis | None = None
    divided: Divided | None = None

    @property
    def is_mean(self) -> bool:
        """Whether it is a sum that the program divides by the number of its summands."""
        return self.divided is not None and self.divided.ddof is not None


@dataclass(frozen=True, eq=False)
class Body:
    """One labelled jaxpr."""

    jaxpr: ClosedJaxpr
    inputs: Sequence[Value]
    constants: Sequence[Value]
    nodes: Sequence[Node]
    outputs: Sequence[Value]


class Rule(NamedTuple):
    """How one primitive treats labels, and how it is applied to smaller arrays.

    Attributes:
        label: `(labelling, equation, inputs) -> Outcome`.
        rebind: `(rewriting, node, arrays) -> arrays`; None where the primitive has no shape among
            its parameters, so that it is bound unchanged.
        contracted: `equation -> [(dimension of each operand)]` that are summed over: pairs for a
            contraction, `(dimension,)` for a reduction.
        neutral: `dtype -> value` that changes nothing in a reduction other than a sum (the least
            number in a maximum); it stands for entries whose gate is 0.
        is_call: its jaxpr only takes operands and gives results, but for the state of a scan.
        permutes: the primitive may take part in an unfinished permutation (a split axis that is
            moved before it is merged again); for all others an axis that is split is used as it is.
    """

    label: Callable[[Labelling, JaxprEqn, Sequence[Value]], Outcome]
    rebind: Callable[[Rewriting, Node, Sequence[Any]], list[Any]] | None = None
    contracted: Callable[[JaxprEqn], Sequence[tuple[int, ...]]] | None = None
    neutral: Callable[[Any], Any] | None = None
    permutes: bool = False
    is_call: bool = False


def run(
    jaxpr: ClosedJaxpr,
    constant_values: Sequence[Array],
    values: Sequence[Array],
    step: Callable[[int, JaxprEqn, list[Any]], Sequence[Any]],
    literal: Callable[[Any], Any],
) -> list[Array]:
    """Walk the equations of a jaxpr once, in order, with any kind of value per variable."""
    inner = jaxpr.jaxpr
    environment: dict[Any, Any] = dict(zip(inner.constvars, constant_values, strict=True))
    environment.update(zip(inner.invars, values, strict=True))

    def read(atom: Any) -> PyTree:
        return literal(atom) if is_literal(atom) else environment[atom]

    for index, equation in enumerate(inner.eqns):
        outputs = step(index, equation, [read(atom) for atom in equation.invars])
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in inner.outvars]


@dataclass(frozen=True)
class Rewriting:
    """Runs a labelled jaxpr on arrays that lack the removed indices, or with gates.

    Attributes:
        removed: `bool[labels]`, what every axis lost.
        rules: the rule of an equation.
        gate: multiplies one operand of a contraction or reduction.
        substitute: asked first for every equation: `(rewriting, node, arrays) -> results`, or None
            where it has nothing to say.
        means: what a mean over channels divides by, as in `trace`.
    """

    removed: np.ndarray
    rules: Callable[[JaxprEqn], Rule | None]
    gate: Gates | None = None
    substitute: Callable[[Rewriting, Node, list[Any]], Sequence[Any] | None] | None = None
    means: str = "all"

    @cached_property
    def _changes(self) -> bool:
        return bool(self.removed.any())

    def kept(self, axis: Axis) -> np.ndarray | None:
        """Return `int[kept]`, the indices that an axis retains; None where it retains all."""
        if axis.labels is None or not self._changes:
            return None
        lost = self.removed[axis.labels]
        return np.flatnonzero(~lost) if lost.any() else None

    def places(self, axis: Axis, indices: np.ndarray) -> np.ndarray:
        """Return, for each index that an axis retains, its place among the retained."""
        kept = self.kept(axis)
        if kept is None:
            return indices
        place = np.full(axis.size, -1)
        place[kept] = np.arange(len(kept))
        placed = place[indices]
        return placed[placed >= 0]

    def size(self, axis: Axis) -> int:
        """Return how many indices an axis retains."""
        return axis.size if (kept := self.kept(axis)) is None else len(kept)

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Return the shape that an array has after removal."""
        return tuple(self.size(axis) for axis in value.axes)

    def take(self, array: Array, value: Value) -> Array:
        """Take the retained indices of every axis of an array of the original shape."""
        for dimension, axis in enumerate(value.axes):
            kept = self.kept(axis)
            if kept is not None:
                array = select(array, kept, dimension)
        return array

    def shrinks(self, node: Node) -> bool:
        """Tell whether any axis of an equation, or of the jaxprs in it, lost an index."""
        if not self._changes:
            return False
        held = [value for body in node.bodies for value in body.constants]
        values = (*node.inputs, *node.outputs, *held)
        if any(self.kept(axis) is not None for value in values for axis in value.axes):
            return True
        return any(self.shrinks(inner) for body in node.bodies for inner in body.nodes)

    def gates(self, node: Node) -> bool:
        """Tell whether a gate acts on an equation, or on the jaxprs in it."""
        return self.gate is not None and any(self._is_gated(axis) for axis in self.summed(node))

    def summed(self, node: Node) -> Iterator[Axis]:
        """Yield the axes that an equation, or the jaxprs in it, sum over or leave out steps of."""
        rule = self.rules(node.equation)
        if rule is not None and rule.contracted is not None:
            for dimensions in rule.contracted(node.equation):
                for operand, dimension in enumerate(dimensions):
                    yield node.inputs[operand].axes[dimension]
            return
        if node.steps is not None:
            yield node.steps
        for inner in [inner for body in node.bodies for inner in body.nodes]:
            yield from self.summed(inner)

    def gates_steps(self, node: Node) -> bool:
        """Tell whether a gate acts on the steps of a loop: 0 passes its state on unchanged."""
        return node.steps is not None and self._is_gated(node.steps)

    def _is_gated(self, axis: Axis) -> bool:
        if self.gate is None or axis.labels is None:
            return False
        return bool(self.gate.slots[axis.labels].any())

    def __call__(self, body: Body, arrays: Sequence[Array]) -> list[Array]:
        """Run a labelled jaxpr; `arrays` lack the removed indices already."""

        def step(index: int, equation: JaxprEqn, values: list[Array]) -> Sequence[Array]:
            return self._apply(body.nodes[index], values)

        pairs = zip(body.jaxpr.consts, body.constants, strict=True)
        closed_over = [self.take(*pair) for pair in pairs]
        return run(body.jaxpr, closed_over, arrays, step, lambda atom: atom.val)

    def _apply(self, node: Node, arrays: list[Array]) -> Sequence[Array]:
        if self.substitute is not None:
            if (made := self.substitute(self, node, arrays)) is not None:
                return made
        gates = self.gates(node)
        shrinks = self.shrinks(node) or any(isinstance(array, Deferred) for array in arrays)
        rule = self.rules(node.equation)
        if rule is None or not (shrinks or gates):
            if shrinks:
                raise _no_rule(node)
            return bind(node.equation, arrays)
        if gates and rule.contracted is not None and self.gate is not None:
            arrays = list(self.gate(node, rule.contracted(node.equation), arrays))
        if rule.rebind is None:
            return bind(node.equation, arrays)
        return rule.rebind(self, node, arrays)


def _no_rule(node: Node) -> NotImplementedError:
    name = node.equation.primitive.name
    return NotImplementedError(
        f"only primitives with a rule can run on fewer channels, but '{name}' at "
        f"{source_line(node.equation)} touches a removed one and has none; keep that group whole "
        "(trace this function to find it frozen) or add a rule in jaxcompress/graph/rules"
    )
