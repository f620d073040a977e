"""Labels over axes: what the analysis knows about each array of a jaxpr.

Every index along an axis carries an integer label. Two indices whose labels end up connected must
be kept or removed together. An axis without labels (size 1, spatial, indexed) cannot change size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn

if TYPE_CHECKING:
    from jaxcompress.graph.origins import Origin
    from jaxcompress.graph.scalars import Scalar

__all__ = [
    "Axis",
    "Labels",
    "Product",
    "Shuffle",
    "Split",
    "Step",
    "Value",
    "fixed_for",
    "whole",
]

Labels = np.ndarray
Step = tuple[str, tuple[int, ...]]


class Split(NamedTuple):
    """Where a factor axis came from: `product` number, and its position among the factors."""

    product: int
    position: int


class Shuffle(NamedTuple):
    """A merged axis that is a permutation of one axis that was split before.

    Attributes:
        source: the axis before the split.
        permutation: `int[size]`, the index into `source` of each index of this axis.
    """

    source: Axis
    permutation: np.ndarray


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of one array.

    Attributes:
        size: number of indices in the original program.
        labels: `int[size]`, or None where the axis cannot change size.
        split: set where the axis is one factor of an axis split by a reshape.
        parts: set where the axis was merged from these axes by a reshape.
        shuffle: set where the merge restores a split axis in another order.
        reason: why it cannot change size, where that is known.
    """

    size: int
    labels: Labels | None = None
    split: Split | None = None
    parts: tuple[Axis, ...] = ()
    shuffle: Shuffle | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    """What is known of one array: its axes, and the leaf it is a plain copy of.

    Attributes:
        axes: one `Axis` per dimension.
        leaf: path of the leaf of `variables` that the array equals up to convert, transpose,
            reshape or a scan's slice; None for anything computed.
        steps: how it was rearranged since, in order: ("transpose", permutation), ("reshape",
            sizes) or ("slice", ()) for one step of a scan over its first axis.
        indices: the array itself, where it is one of integers that the program knows.
        origin: how the variables alone give it, where they do.
        scalar: the number that all its entries are, where the program knows it.
    """

    axes: tuple[Axis, ...]
    leaf: str | None = None
    steps: tuple[Step, ...] = ()
    indices: np.ndarray | None = None
    origin: Origin | None = None
    scalar: Scalar | None = None

    def rearranged(self, axes: tuple[Axis, ...], name: str, numbers: Sequence[int] = ()) -> Value:
        """Return the same leaf reference, rearranged by one more step."""
        if self.leaf is None:
            return Value(axes)
        step = (name, tuple(int(number) for number in numbers))
        return Value(axes, self.leaf, (*self.steps, step))


@dataclass(frozen=True, eq=False)
class Product:
    """C = heads x head size: one axis that a reshape split into factors, or merged from them.

    Exactly one factor may stay prunable: removing single entries of `whole` would leave a ragged
    array. A product that nothing but transposes and reshapes touched is a mere permutation and
    constrains nothing; `Labelling.used` holds the numbers of the others.

    Attributes:
        axis: the whole axis, labelled.
        factors: the factor axes, major first; at least two are labelled.
        equation: the reshape.
    """

    axis: Axis
    factors: tuple[Axis, ...]
    equation: JaxprEqn

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the factors, major first."""
        return tuple(factor.size for factor in self.factors)


def whole(sizes: tuple[int, ...], reason: str = "") -> Value:
    """Return a value none of whose axes can change size, for one reason."""
    return Value(tuple(Axis(size, reason=reason) for size in sizes))


def fixed_for(axes: Sequence[Axis]) -> str:
    """Say why an axis that meets these cannot change size: for the first reason known of them."""
    reasons = [axis.reason for axis in axes if axis.reason]
    if not reasons:
        return "it meets an axis of fixed size (input, spatial or indexed)"
    return f"it meets an axis of fixed size: {reasons[0]}"
