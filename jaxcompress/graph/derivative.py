"""Carry a decision into another jaxpr whose operands and results are known: derivative rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.interpret import Body, Rewriting
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.reading import label
from jaxcompress.graph.resolve import KEPT, REMOVED, spread

__all__ = ["Losses", "rewrite_derivative", "losses"]


Losses = tuple["np.ndarray | None", ...]


def losses(rewriting: Rewriting, value: Value) -> Losses:
    """Return, for each axis of an array, `bool[size]` of what it lost; None if it is fixed."""
    return tuple(
        None if axis.labels is None else rewriting.removed[axis.labels] for axis in value.axes
    )


def rewrite_derivative(
    rewriting: Rewriting,
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Losses],
    outputs: Sequence[Losses],
) -> tuple[Body, Rewriting]:
    """Label another jaxpr, given what its operands and first results lost.

    Returns:
        The labelled jaxpr, and what runs it on arrays that lack the removed indices.
    """
    labelling = Labelling(enter=lambda *_: None, discover=False)
    labelling.enter = lambda inner, values: label(labelling, inner, values, rewriting.rules)
    known: list[tuple[np.ndarray, np.ndarray]] = []
    shapes = [variable.aval.shape for variable in jaxpr.jaxpr.invars]
    values = [_known(labelling, s, lost, known) for s, lost in zip(shapes, inputs, strict=True)]
    body = labelling.enter(jaxpr, values)
    for value, lost in zip(body.outputs, outputs, strict=False):
        sizes = tuple(axis.size for axis in value.axes)
        expected = _known(labelling, sizes, lost, known)
        for axis, other in zip(value.axes, expected.axes, strict=True):
            labelling.tie_labels(axis.labels, other.labels)
    seeds = np.zeros(labelling.count, np.int8)
    for labels, mask in known:
        seeds[labels] = np.where(mask, REMOVED, KEPT)
    removed = spread(labelling, seeds, _conflict) == REMOVED
    return body, Rewriting(removed, rewriting.rules, means=rewriting.means)


def _known(
    labelling: Labelling,
    shape: Sequence[int],
    lost: Losses,
    known: list[tuple[np.ndarray, np.ndarray]],
) -> Value:
    if not lost:
        return whole(tuple(shape))
    axes = []
    for size, mask in zip(shape, lost, strict=True):
        axis = Axis(size) if mask is None else labelling.fresh(size, Kind.LEAF)
        if axis.labels is not None and mask is not None:
            known.append((axis.labels, mask))
        axes.append(axis)
    return Value(tuple(axes))


def _conflict(one: int, other: int) -> Exception:
    return ValueError(
        "a derivative rule must keep the same channels as its function, but connects a kept "
        "channel with a removed one; keep the group whole"
    )
