"""Operations: each conv and dot of a program alone, at any widths, so that it can be timed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.cost import CostBuilder, Term
from jaxcompress.graph.internals import bind
from jaxcompress.graph.labelling import Contraction

__all__ = ["Operation", "Side", "find_operations"]


class Side(NamedTuple):
    """One dimension of an operand.

    Attributes:
        size: as traced.
        axis: which of the operation's widths it follows, in proportion; None where it never
            changes.
    """

    size: int
    axis: int | None


class Operation(NamedTuple):
    """One conv or dot of the program, by itself.

    Attributes:
        name: the path of its kernel, or the line of code where no operand is a leaf; of what is
            there several times, with a number.
        equation: as traced.
        operands: the sides of both operands.
        widths: `int[axes]`, the sizes as traced of what may shrink in it.
        axes: the position of each of these among the distinct axes of the cost.
        repeats: positions of the axes that say how often it runs: shortened scans.
        times: how often else it runs: the lengths of the other scans around it.
    """

    name: str
    equation: JaxprEqn
    operands: tuple[tuple[Side, ...], ...]
    widths: tuple[int, ...]
    axes: tuple[int, ...]
    repeats: tuple[int, ...]
    times: int

    @property
    def dtypes(self) -> list[Any]:
        """Of its operands."""
        avals: list[Any] = [atom.aval for atom in self.equation.invars]
        return [aval.dtype for aval in avals]

    @property
    def same_as(self) -> str:
        """What two operations share that take the same time at the same widths."""
        dtypes = [str(dtype) for dtype in self.dtypes]
        params = sorted(self.equation.params.items(), key=lambda item: item[0])
        return repr((self.equation.primitive.name, params, self.operands, dtypes))

    @property
    def grains(self) -> tuple[int, ...]:
        """`int[axes]`: widths are multiples of these, or operands would not fit each other."""
        every = [side for sides in self.operands for side in sides]
        shares = [
            [whole // math.gcd(side.size, whole) for side in every if side.axis == axis]
            for axis, whole in enumerate(self.widths)
        ]
        groups = self.equation.params.get("feature_group_count", 1)
        if groups > 1:
            numbers = self.equation.params["dimension_numbers"]
            features = self.operands[0][numbers.lhs_spec[1]]
            outputs = self.operands[1][numbers.rhs_spec[0]]
            if outputs.axis is not None:
                goes_whole = features.axis == outputs.axis
                shares[outputs.axis].append(outputs.size // groups if goes_whole else groups)
        return tuple(math.lcm(*numbers) for numbers in shares)

    def inputs(self, widths: Sequence[int]) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Return its abstract operands at `widths`, `[axes]`."""
        shapes = [tuple(self._size(side, widths) for side in sides) for sides in self.operands]
        return tuple(
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in zip(shapes, self.dtypes, strict=True)
        )

    def run(self, *operands: Array) -> jax.Array:
        """Apply it to operands of any widths."""
        params, changes = self.equation.params, {}
        if params.get("feature_group_count", 1) > 1:
            numbers = params["dimension_numbers"]
            features, lanes = (
                operands[0].shape[numbers.lhs_spec[1]],
                operands[1].shape[numbers.rhs_spec[1]],
            )
            changes = {"feature_group_count": features // lanes}
        return bind(self.equation, operands, changes)[0]

    def _size(self, side: Side, widths: Sequence[int]) -> int:
        if side.axis is None:
            return side.size
        return side.size * int(widths[side.axis]) // self.widths[side.axis]


def find_operations(
    builder: CostBuilder, contractions: Sequence[Contraction], terms: Sequence[Term]
) -> tuple[Operation, ...]:
    """Return the operations of a program's contractions, in their order.

    Args:
        builder: which knows the axes of the cost.
        contractions: those that are counted.
        terms: of the same contractions.
    """
    seen: Counter[str] = Counter()
    made = []
    for contraction, term in zip(contractions, terms, strict=True):
        label = term.path or term.source
        seen[label] += 1
        name = label if seen[label] == 1 else f"{label}#{seen[label]}"
        made.append(_operation(builder, contraction, name))
    return tuple(made)


def _operation(builder: CostBuilder, contraction: Contraction, name: str) -> Operation:
    places = [[builder.axes([axis])[0] for axis in value.axes] for value in contraction.operands]
    sizes = [[axis.size for axis in value.axes] for value in contraction.operands]
    counted = builder.axes(contraction.counted)[0]
    inside = {place for side in places for one in side for place in one}
    axes = tuple(dict.fromkeys(place for place in counted if place in inside))
    dense = {
        one[0]: size
        for side, lengths in zip(places, sizes, strict=True)
        for one, size in zip(side, lengths, strict=True)
        if one
    }
    position = {place: number for number, place in enumerate(axes)}
    operands = tuple(
        tuple(
            Side(size, _followed(contraction, places, position, one))
            for one, size in zip(side, lengths, strict=True)
        )
        for side, lengths in zip(places, sizes, strict=True)
    )
    return Operation(
        name,
        contraction.equation,
        operands,
        tuple(dense[place] for place in axes),
        axes,
        tuple(place for place in counted if place not in inside),
        contraction.repeat,
    )


def _followed(
    contraction: Contraction,
    places: Sequence[Sequence[tuple[int, ...]]],
    position: Mapping[int, int],
    place: tuple[int, ...],
) -> int | None:
    """Return which width a dimension follows: the features of a grouped image those of a kernel."""
    if not place:
        return None
    if place[0] in position:
        return position[place[0]]
    # Lanes of every group where these shrink, else whole groups, which the outputs count.
    spec = contraction.equation.params["dimension_numbers"].rhs_spec
    lanes, outputs = places[1][spec[1]], places[1][spec[0]]
    return position[(lanes or outputs)[0]]
