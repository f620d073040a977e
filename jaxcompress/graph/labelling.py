"""The record that rules write into while one jaxpr is read: ties, pins, products, contractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jaxcompress.graph.axes import Axis, Labels, Product, Split, Value, fixed_for
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["Contraction", "Kind", "Labelling", "Pin", "Reduction"]


class Kind(IntEnum):
    """Where a label was born."""

    LEAF = 0
    CONSTANT = 1
    EXAMPLE = 2
    FREE = 3
    FACTOR = 4


class Pin(NamedTuple):
    """Labels that must all be kept, and why.

    A hard pin holds always: the shape could not follow. A soft one holds for discovery only:
    the result would mean something else (a mean over channels, an output).
    """

    labels: Labels
    reason: str
    equation: JaxprEqn | None
    hard: bool


class Contraction(NamedTuple):
    """One conv or dot: what it sums over, what it costs.

    Attributes:
        equation: the jaxpr equation.
        operands: its two operands.
        contracted: pairs of axes (left, right) that are summed over.
        counted: the axes whose kept counts multiply to the multiply-accumulates.
        constant: the remaining factor, so that flops = constant x product of counts.
        inside_rule: whether it stands inside a function with a derivative rule of its own.
        repeat: how often it runs, the steps of scans that may be shortened left out.
    """

    equation: JaxprEqn
    operands: tuple[Value, Value]
    contracted: tuple[tuple[Axis, Axis], ...]
    counted: tuple[Axis, ...]
    constant: int
    inside_rule: bool
    repeat: int = 1


class Reduction(NamedTuple):
    """One sum, maximum or other reduction: what it leaves out may go.

    Attributes:
        equation: the jaxpr equation.
        axes: the axes that it reduces.
        inside_rule: whether it stands inside a function with a derivative rule of its own.
    """

    equation: JaxprEqn
    axes: tuple[Axis, ...]
    inside_rule: bool


@dataclass
class Labelling:
    """Collects what the rules say; local to one reading of one jaxpr.

    Attributes:
        enter: labels a nested jaxpr: `(closed_jaxpr, inputs) -> Body`.
        discover: True while deciding what may be removed; False while applying a decision.
        kinds: the `Kind` of each label, as (kind, count) runs in order of birth.
        edges: pairs of equally long label vectors that are tied index by index.
        uses: how many equations read each leaf, plain copies not counted.
        caller: the equation being read, which the equations of a nested jaxpr stand in.
        repeat: how often the code being read runs: the lengths of the enclosing scans.
        steps: the scanned axes of those that may be shortened, which `repeat` leaves out.
    """

    enter: Callable[..., Any]
    discover: bool
    kinds: list[tuple[Kind, int]] = field(default_factory=list)
    edges: list[tuple[Labels, Labels]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    contractions: list[Contraction] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    uses: Counter[str] = field(default_factory=Counter)
    count: int = 0
    repeat: int = 1
    steps: tuple[Axis, ...] = ()
    inside_rule: bool = False
    silent: bool = False
    caller: Any = None

    def fresh(self, size: int, kind: Kind) -> Axis:
        """Return an axis with labels of its own; one of size 1, or symbolic, carries none."""
        is_labelled = not is_symbolic(size) and size > 1
        return Axis(size, self.fresh_labels(size, kind)) if is_labelled else Axis(size)

    def fresh_labels(self, size: int, kind: Kind) -> Labels:
        """Return labels that nothing carries yet."""
        labels = np.arange(self.count, self.count + size, dtype=np.int32)
        self.count += size
        self.kinds.append((kind, size))
        return labels

    def fresh_value(self, shape: Sequence[int], kind: Kind, leaf: str | None = None) -> Value:
        """Return a value whose axes all carry labels of their own."""
        return Value(tuple(self.fresh(size, kind) for size in shape), leaf)

    def tie(self, equation: JaxprEqn | None, *axes: Axis) -> Axis:
        """Keep or remove equally long axes together, index by index; return one to go on with."""
        labelled = [axis for axis in axes if axis.labels is not None]
        if not labelled:
            return max(axes, key=lambda axis: bool(axis.reason))
        for other in labelled[1:]:
            self.tie_labels(labelled[0].labels, other.labels)
        fixed = [axis for axis in axes if axis.labels is None]
        for axis in labelled if fixed else ():
            self.pin(equation, axis, fixed_for(fixed))
        return labelled[0]

    def tie_labels(self, left: Labels | None, right: Labels | None) -> None:
        """Connect two label vectors index by index."""
        if left is None or right is None or left is right:
            return
        self.edges.append((left, right))

    def pin(self, equation: JaxprEqn | None, axis: Axis, reason: str, hard: bool = True) -> None:
        """Say that every index of an axis must be kept."""
        if axis.labels is not None:
            self.pins.append(Pin(axis.labels, reason, equation, hard))

    def pin_all(self, equation: JaxprEqn | None, values: Sequence[Value], reason: str) -> None:
        """Pin every axis of every value."""
        for value in values:
            for axis in value.axes:
                self.pin(equation, axis, reason)

    def product(self, equation: JaxprEqn, axis: Axis, factors: Sequence[Axis], used: bool) -> int:
        """Record that an axis is the product of factor axes; return the product's number."""
        self.products.append(Product(axis, tuple(factors), equation))
        number = len(self.products) - 1
        if used:
            self.used.add(number)
        return number

    def split(self, equation: JaxprEqn, axis: Axis, sizes: Sequence[int]) -> tuple[Axis, ...]:
        """Split a labelled axis into fresh factor axes."""
        fresh = [self.fresh(size, Kind.FACTOR) for size in sizes]
        number = self.product(equation, axis, fresh, used=False)
        return tuple(
            Axis(factor.size, factor.labels, split=Split(number, position))
            for position, factor in enumerate(fresh)
        )

    def use(self, values: Sequence[Value]) -> None:
        """Note that factor axes took part in something other than a permutation."""
        for value in values:
            for axis in value.axes:
                if axis.split is not None:
                    self.used.add(axis.split.product)

    def count_reads(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Count an equation's reads of leaves; a rearranged leaf is counted where it is used."""
        passed = {value.leaf for value in outputs}
        for value in inputs:
            if value.leaf is not None and value.leaf not in passed and not self.silent:
                self.uses[value.leaf] += 1

    def contraction(
        self,
        equation: JaxprEqn,
        operands: Sequence[Value],
        contracted: Sequence[tuple[Axis, Axis]],
        counted: Sequence[Axis],
        constant: int,
    ) -> None:
        """Record one conv or dot."""
        if not self.silent:
            left, right = operands
            sums = tuple(contracted), (*counted, *self.steps), constant * self.repeat
            made = Contraction(equation, (left, right), *sums, self.inside_rule, self.repeat)
            self.contractions.append(made)

    def reduction(self, equation: JaxprEqn, axes: Sequence[Axis]) -> None:
        """Record one reduction."""
        if not self.silent and any(axis.labels is not None for axis in axes):
            self.reductions.append(Reduction(equation, tuple(axes), self.inside_rule))

    @contextmanager
    def scope(
        self, steps: Axis | None = None, inside_rule: bool = False, silent: bool = False
    ) -> Iterator[None]:
        """Read a nested jaxpr that runs along an axis, under a derivative rule, or uncounted."""
        before = self.repeat, self.steps, self.inside_rule, self.silent
        if steps is not None and steps.labels is not None:
            self.steps = (*self.steps, steps)
        elif steps is not None:
            self.repeat *= steps.size
        self.inside_rule |= inside_rule
        self.silent |= silent
        try:
            yield
        finally:
            self.repeat, self.steps, self.inside_rule, self.silent = before

    @contextmanager
    def inside(self, equation: JaxprEqn) -> Iterator[None]:
        """Read one equation, and the jaxprs in it."""
        before, self.caller = self.caller, equation
        try:
            yield
        finally:
            self.caller = before

    def kind_of_labels(self) -> np.ndarray:
        """Return `int[count]`, the `Kind` of each label."""
        kinds, sizes = [int(kind) for kind, _ in self.kinds], [size for _, size in self.kinds]
        return np.repeat(np.asarray(kinds, np.int8), np.asarray(sizes, np.int64))

    def components(self) -> np.ndarray:
        """Return `int[count]`, the connected component of each label."""
        if not self.edges:
            return np.arange(self.count, dtype=np.int32)
        left = np.concatenate([pair[0].ravel() for pair in self.edges])
        right = np.concatenate([pair[1].ravel() for pair in self.edges])
        ones = np.ones(left.size, np.int8)
        graph = coo_matrix((ones, (left, right)), shape=(self.count, self.count))
        return connected_components(graph, directed=False)[1]
