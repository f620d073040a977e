"""Carry a decision into another jaxpr whose operands and results are known: derivative rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.interpret import Body, Rewriting
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.reading import label
from jaxcompress.graph.resolve import KEPT, REMOVED, spread

__all__ = ["Marks", "marks", "rewrite_derivative"]


Marks = tuple["np.ndarray | None", ...]
"""For each axis of an array `int[size]`: kept, removed, or REMOVED + the slot of its gate."""


def marks(rewriting: Rewriting, value: Value) -> Marks:
    """Return what becomes of each index of each axis of an array; None if an axis is fixed."""
    return tuple(
        None if axis.labels is None else _marks(rewriting, axis.labels) for axis in value.axes
    )


def _marks(rewriting: Rewriting, labels: np.ndarray) -> np.ndarray:
    known = np.where(rewriting.removed[labels], REMOVED, KEPT)
    if rewriting.gate is None:
        return known
    slots = rewriting.gate.slots[labels]
    return np.where(slots > 0, REMOVED + slots, known)


def rewrite_derivative(
    rewriting: Rewriting,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Marks],
    outputs: Sequence[Marks],
) -> tuple[Body, Rewriting]:
    """Label another jaxpr, given what becomes of its operands and first results.

    Returns:
        The labelled jaxpr, and what runs it on arrays that lack the removed indices, with the gates
        of the others.
    """
    labelling = Labelling(enter=lambda *_: None, discover=False)
    labelling.enter = lambda inner, values: label(labelling, inner, values, rewriting.rules)
    known: list[tuple[np.ndarray, np.ndarray]] = []
    shapes = [variable.aval.shape for variable in jaxpr.jaxpr.invars]
    values = [_known(labelling, s, marked, known) for s, marked in zip(shapes, inputs, strict=True)]
    body = labelling.enter(jaxpr, values)
    for value, marked in zip(body.outputs, outputs, strict=False):
        sizes = tuple(axis.size for axis in value.axes)
        expected = _known(labelling, sizes, marked, known)
        for made, other in zip(value.axes, expected.axes, strict=True):
            labelling.tie_labels(made.labels, other.labels)
    seeds = np.zeros(labelling.count, np.int32)
    for labels, numbers in known:
        seeds[labels] = numbers
    spread_marks = spread(labelling, seeds, _conflict)
    gate = rewriting.gate
    if gate is not None:
        gate = gate.on(labelling, np.maximum(spread_marks - REMOVED, 0))
    return body, replace(rewriting, removed=spread_marks == REMOVED, gate=gate, substitute=None)


def _known(
    labelling: Labelling,
    shape: Sequence[int],
    marked: Marks,
    known: list[tuple[np.ndarray, np.ndarray]],
) -> Value:
    if not marked:
        return whole(tuple(shape))
    axes = []
    for size, numbers in zip(shape, marked, strict=True):
        axis = Axis(size) if numbers is None else labelling.fresh(size, Kind.LEAF)
        if axis.labels is not None and numbers is not None:
            known.append((axis.labels, numbers))
        axes.append(axis)
    return Value(tuple(axes))


def _conflict(one: int, other: int) -> Exception:
    return ValueError(
        "a derivative rule must keep the same channels as its function, but connects channels of "
        "which one is removed, or gated, and the other not; keep the group whole"
    )
