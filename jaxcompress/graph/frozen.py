"""What cannot be removed, and why: the pins that `trace` adds, and the list that it reports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxcompress.graph.internals import source_line
from jaxcompress.graph.labelling import Labelling, Pin
from jaxcompress.graph.program import LabelledProgram

__all__ = ["Frozen", "frozen_axes", "pin_elsewhere", "pin_inside_rules"]


class Frozen(NamedTuple):
    """Indices of a leaf axis that cannot be removed.

    Attributes:
        path: the leaf.
        axis: its axis.
        number: how many of its indices are frozen for this reason.
        reason: why.
        source: the line of code that froze them.
    """

    path: str
    axis: int
    number: int
    reason: str
    source: str


def pin_elsewhere(
    labelling: Labelling, first: int, components: np.ndarray, summed: np.ndarray
) -> None:
    """Freeze what only another function sums over: the first has no cost and no gate for it.

    Args:
        labelling: of all functions.
        first: how many of its contractions are the first function's.
        components: `int[labels]`.
        summed: `bool[components]`, what the first function sums over.
    """
    for contraction in labelling.contractions[first:]:
        for pair in contraction.contracted:
            for axis in pair:
                if axis.labels is not None:
                    labels = axis.labels[~summed[components[axis.labels]]]
                    reason = "only a function in also= sums over it; trace that one first"
                    labelling.pins.append(Pin(labels, reason, contraction.equation, hard=False))


def pin_inside_rules(labelled: LabelledProgram) -> None:
    """Freeze the steps of loops inside custom derivatives: backward, they run the other way."""
    for reduction in labelled.labelling.reductions:
        if reduction.inside_rule and reduction.equation.primitive.name == "scan":
            for axis in reduction.axes:
                reason = "a custom derivative goes through it step by step"
                labelled.labelling.pin(reduction.equation, axis, reason, hard=False)


def frozen_axes(
    labelled: LabelledProgram, components: np.ndarray, first_pin: np.ndarray
) -> list[Frozen]:
    """Return, for every leaf axis, what freezes how many of its indices."""
    frozen = []
    for owner in labelled.owners:
        pins = first_pin[components[owner.start : owner.start + owner.size]]
        for number, count in zip(*np.unique(pins[pins >= 0], return_counts=True), strict=True):
            pin = labelled.labelling.pins[number]
            source = "" if pin.equation is None else source_line(pin.equation)
            frozen.append(Frozen(owner.path, owner.axis, int(count), pin.reason, source))
    return frozen
