"""Where a constant missing from what a kernel makes can be put: the next leaf that is added to it.

A conv or dot whose kernel is a leaf is followed to the addition of a leaf (a bias), or the
subtraction of one (a BatchNorm's mean in evaluation mode), through whatever only moves its entries
and whatever else is added on the way. Every entry carries a number, that of the constant it would
lack, and so does every entry of the leaf; where both meet, these say which goes into which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Step
from jaxcompress.graph.internals import is_literal, scan_counts, shape_of
from jaxcompress.graph.interpret import Body, Node, run
from jaxcompress.graph.known import moved, moves
from jaxcompress.graph.positions import constant_shape
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules.control import MAPS

__all__ = ["Shift", "find_shifts"]

ADDITIONS = ("add", "add_any", "sub")
LOOPS = ("scan", "while", "cond", *MAPS)
UNREACHED = "it runs in a loop or branch, or not at all"
UNREAD = "nothing reads its result"


class Shift(NamedTuple):
    """The leaf that can take a constant in place of a contraction's result.

    leaf += sign * constant.ravel()[entries], where the constant is the same at all positions:
    its shape is `constant_shape(equation, position)`.

    Attributes:
        leaf: its path.
        sign: 1 where the leaf is added, -1 where it is subtracted.
        entries: `int[leaf's shape]`.
        equation: the contraction.
        position: of the kernel among its operands.
        steps: how the kernel is rearranged before.
        scans: how many scans run over the first axes of kernel and leaf; the entries, and the
            shape above, are those of one step.
    """

    leaf: str
    sign: int
    entries: np.ndarray
    equation: JaxprEqn
    position: int
    steps: tuple[Step, ...]
    scans: int = 0


class _Waiting(NamedTuple):
    """The result of a kernel that may lack a constant, and how it was moved since."""

    path: str
    equation: JaxprEqn
    position: int
    steps: tuple[Step, ...]
    moves: tuple[JaxprEqn, ...] = ()


class _Trail(NamedTuple):
    """What is known of an array: which leaf, or step of it, moved how, and what it may lack."""

    leaf: str = ""
    moves: tuple[JaxprEqn, ...] = ()
    waiting: tuple[_Waiting, ...] = ()
    scans: int = 0


def find_shifts(
    labelled: LabelledProgram, kernels: Collection[str], in_scans: bool = False
) -> tuple[dict[str, Shift], dict[str, str]]:
    """Return by kernel the leaf that takes its constant; of the others, why there is none.

    Args:
        labelled: a function in evaluation mode.
        kernels: paths.
        in_scans: whether to look at kernels in the steps of scans too.
    """
    walk = _Walk(frozenset(kernels), labelled, in_scans)
    leaves = [_Trail(path) for path in labelled.program.leaves]
    inputs = [_Trail()] * (len(labelled.body.inputs) - len(leaves))
    walk.lose(walk(labelled.body, [*leaves, *inputs]), "its result is an output")
    left = {path: walk.lost.get(path, UNREACHED) for path in kernels if path not in walk.shifts}
    return walk.shifts, left


@dataclass(frozen=True)
class _Walk:
    """Follows results of kernels to the leaves that are added to them; local to one search.

    Attributes:
        kernels: to follow.
        labelled: the function.
        in_scans: whether scans are entered.
        shifts: the shifts so far, by kernel.
        lost: the first reason why a kernel has none.
    """

    kernels: Collection[str]
    labelled: LabelledProgram
    in_scans: bool = False
    shifts: dict[str, Shift] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def __call__(self, body: Body, trails: Sequence[_Trail]) -> list[_Trail]:
        inner = body.jaxpr.jaxpr
        atoms = [*(atom for equation in inner.eqns for atom in equation.invars), *inner.outvars]
        reads = Counter(atom for atom in atoms if not is_literal(atom))

        def read_once(variables: Sequence[Any], values: Sequence[_Trail]) -> list[_Trail]:
            pairs = zip(variables, values, strict=True)
            return [self._once(trail, reads[variable]) for variable, trail in pairs]

        def step(index: int, equation: JaxprEqn, values: list[_Trail]) -> list[_Trail]:
            return read_once(equation.outvars, self._step(body.nodes[index], values))

        constants = [_Trail()] * len(inner.constvars)
        return run(body.jaxpr, constants, read_once(inner.invars, trails), step, lambda _: _Trail())

    def lose(self, trails: Sequence[_Trail], reason: str) -> None:
        """Say why nothing takes the constants of some arrays."""
        for waiting in [waiting for trail in trails for waiting in trail.waiting]:
            if self.lost[waiting.path] == UNREAD:
                self.lost[waiting.path] = reason

    def _once(self, trail: _Trail, reads: int) -> _Trail:
        """What is read twice lacks its constant twice, and a leaf makes up for it once."""
        if reads > 1:
            self.lose([trail], f"its result is read {reads} times before a leaf is added to it")
        return trail._replace(waiting=() if reads > 1 else trail.waiting)

    def _step(self, node: Node, trails: Sequence[_Trail]) -> list[_Trail]:
        equation, name = node.equation, node.equation.primitive.name
        if node.bodies and name not in LOOPS and len(node.bodies[0].inputs) == len(trails):
            return self(node.bodies[0], trails)
        if name == "scan" and self.in_scans:
            return self._scanned(node, trails)
        position = self._kernel(node)
        if position is not None:
            return [self._start(node, position)]
        if name in ADDITIONS:
            return [self._added(equation, *trails)]
        if moves(equation):
            leaf, before, waiting, scans = trails[0]
            further = tuple(w._replace(moves=(*w.moves, equation)) for w in waiting)
            return [_Trail(leaf, (*before, equation), further, scans)]
        self.lose(trails, f"no leaf is added to its result before '{name}'")
        return [_Trail() for _ in equation.outvars]

    def _scanned(self, node: Node, trails: Sequence[_Trail]) -> list[_Trail]:
        """Look into one step of a scan, which hands no constant in or on."""
        self.lose(trails, "a scan reads its result before a leaf is added to it")
        constants, carry = scan_counts(node.equation)
        fixed = [trail._replace(waiting=()) for trail in trails[:constants]]
        rows = trails[constants + carry :]
        slices = [
            _Trail() if trail.moves or not trail.leaf else _Trail(trail.leaf, scans=trail.scans + 1)
            for trail in rows
        ]
        handed_on = self(node.bodies[0], [*fixed, *[_Trail()] * carry, *slices])
        self.lose(handed_on, "a scan hands its result on before a leaf is added to it")
        return [_Trail() for _ in node.equation.outvars]

    def _kernel(self, node: Node) -> int | None:
        """Return which operand is a kernel to follow, if one is."""
        if node.equation.primitive.name not in ("dot_general", "conv_general_dilated"):
            return None
        return next((i for i in (1, 0) if node.inputs[i].leaf in self.kernels), None)

    def _start(self, node: Node, position: int) -> _Trail:
        equation, kernel = node.equation, node.inputs[position]
        path = str(kernel.leaf)
        self.shifts.pop(path, None)
        if path in self.lost:
            self.lost[path] = "it is used several times"
            return _Trail()
        is_image = equation.primitive.name == "conv_general_dilated" and position == 0
        if is_image or equation.params.get("batch_group_count", 1) > 1:
            self.lost[path] = "it is no ordinary kernel of a convolution"
            return _Trail()
        self.lost[path] = UNREAD
        return _Trail(waiting=(_Waiting(path, equation, position, kernel.steps),))

    def _added(self, equation: JaxprEqn, *trails: _Trail) -> _Trail:
        further: tuple[_Waiting, ...] = ()
        for place, trail in enumerate(trails):
            sign = -1 if equation.primitive.name == "sub" else 1
            if place > 0 > sign:
                self.lose([trail], "its result is subtracted from another")
                continue
            other = trails[1 - place]
            still = tuple(one for one in trail.waiting if not self._meets(one, other, sign))
            if shape_of(equation.invars[place]) != shape_of(equation.outvars[0]):
                self.lose([_Trail(waiting=still)], "its result is repeated before a leaf is added")
                continue
            further += still
        return _Trail(waiting=further)

    def _meets(self, waiting: _Waiting, leaf: _Trail, sign: int) -> bool:
        """Note the leaf that is added to a result, if it can take the constant."""
        aval = self.labelled.program.leaves.get(leaf.leaf)
        if aval is None or not jnp.issubdtype(aval.dtype, jnp.inexact):
            return False
        if self.labelled.labelling.uses[leaf.leaf] > 1:
            self.lose([_Trail(waiting=(waiting,))], f"{leaf.leaf} is read elsewhere too")
            return False
        _, equation, position, steps, made = waiting
        if [name for name, _ in steps].count("slice") != leaf.scans:
            return False
        shape = aval.shape[leaf.scans :]
        numbers = _numbers(constant_shape(equation, position))
        numbers = np.broadcast_to(numbers, shape_of(equation.outvars[0]))
        places = moved(leaf.moves, _numbers(shape))
        entries = _matched(moved(made, numbers), places, prod(shape))
        if entries is None:
            return False
        what = leaf.leaf, sign, entries.reshape(shape), equation, position, steps, leaf.scans
        self.shifts[waiting.path] = Shift(*what)
        return True


def _numbers(shape: Sequence[int]) -> np.ndarray:
    return np.arange(prod(shape)).reshape(shape)


def _matched(numbers: np.ndarray, places: np.ndarray, size: int) -> np.ndarray | None:
    """Return the one number that meets each of `size` places; None if some meet several or none."""
    numbers, places = np.broadcast_arrays(numbers, places)
    strides = zip(numbers.strides, places.strides, strict=True)
    # Axes along which both repeat themselves say the same everywhere.
    first = tuple(slice(None) if any(pair) else slice(1) for pair in strides)
    numbers, places = numbers[first], places[first]
    matched = np.full(size, -1)
    matched[places] = numbers
    return matched if matched.min() >= 0 and (matched[places] == numbers).all() else None
