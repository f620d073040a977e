"""Latency as a cost: what each operation takes, looked up in grids of widths.

t(widths) = sum over operations of times x seconds[next widths in the grid], each width rounded up
to the next of the grid: what was measured, never guessed. As a function of traced widths it has the
slope of the line between the two, so that gates learned under it feel what a channel costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from jaxcompress.annotations import Array

__all__ = ["TimedTerm", "latency"]

# Widths are whole numbers, also where they are floats.
ROUNDING = 1e-3


class TimedTerm(NamedTuple):
    """What one operation takes, as a function of its widths.

    Attributes:
        name: of the operation.
        axes: positions of its widths among the cost's distinct axes.
        knots: the widths of the grid, rising from 0, one tuple an axis.
        microseconds: `float[knots of the first axis, ...]`, 0 where a width is.
        repeats: positions of the axes that say how often it runs.
        times: how often else.
    """

    name: str
    axes: tuple[int, ...]
    knots: tuple[tuple[int, ...], ...]
    microseconds: np.ndarray
    repeats: tuple[int, ...] = ()
    times: float = 1.0


class _Packed(NamedTuple):
    """All terms as arrays, an axis of one knot where a term has fewer than others.

    Attributes:
        axes: `int[terms, depth]`.
        knots: `float[terms, depth, most]`, infinite beyond the last.
        strides: `int[terms, depth]`, into the flat values.
        starts: `int[terms]`.
        values: `float[all]`.
        repeats: `int[terms, most]`.
        times: `float[terms]`.
    """

    axes: np.ndarray
    knots: np.ndarray
    strides: np.ndarray
    starts: np.ndarray
    values: np.ndarray
    repeats: np.ndarray
    times: np.ndarray


def latency(terms: Sequence[TimedTerm], counts: Array) -> Array:
    """Return the microseconds of all operations at the counts of the cost's axes, then a 1.

    Example:
        >>> grid = np.array([[0.0, 0.0], [0.0, 2.0], [0.0, 3.0]])
        >>> terms = [TimedTerm("a", (0, 1), ((0, 4, 8), (0, 8)), grid)]
        >>> [float(latency(terms, np.array([n, 8.0, 1.0]))) for n in (0.0, 3.0, 4.0, 5.0, 8.0)]
        [0.0, 2.0, 2.0, 3.0, 3.0]
    """
    packed = _pack(terms, len(counts) - 1)
    often = packed.times * counts[packed.repeats].prod(axis=-1)
    counted = counts[packed.axes]
    if isinstance(counts, np.ndarray):
        index = (packed.knots < counted[..., None] - ROUNDING).sum(-1)
        return (often * packed.values[packed.starts + (index * packed.strides).sum(-1)]).sum()
    return (often * _with_slope(packed, counted)).sum()


def _pack(terms: Sequence[TimedTerm], one: int) -> _Packed:
    depth = max([1, *(len(term.axes) for term in terms)])
    most = max([1, *(len(knots) for term in terms for knots in term.knots)])
    repeated = max([1, *(len(term.repeats) for term in terms)])
    axes = np.full((len(terms), depth), one)
    knots = np.full((len(terms), depth, most), np.inf)
    strides = np.zeros((len(terms), depth), np.int64)
    repeats = np.full((len(terms), repeated), one)
    knots[:, :, 0] = 1.0
    starts = np.cumsum([0, *(term.microseconds.size for term in terms)])
    for number, term in enumerate(terms):
        axes[number, : len(term.axes)] = term.axes
        repeats[number, : len(term.repeats)] = term.repeats
        for place, widths in enumerate(term.knots):
            knots[number, place, : len(widths)] = widths
            strides[number, place] = np.prod(term.microseconds.shape[place + 1 :], dtype=np.int64)
    values = np.concatenate([np.ravel(term.microseconds) for term in terms])
    times = np.asarray([term.times for term in terms], np.float64)
    return _Packed(axes, knots, strides, starts[:-1], values, repeats, times)


def _with_slope(packed: _Packed, counts: Any) -> Array:
    """Return each term's value at the next knots, with the slope of the line to those before."""
    import jax.numpy as jnp

    kind = jnp.result_type(float)
    knots, values = jnp.asarray(packed.knots, kind), jnp.asarray(packed.values, kind)
    upper = (knots < counts[..., None] - ROUNDING).sum(-1)
    lower = jnp.maximum(upper - 1, 0)
    ends = [jnp.take_along_axis(knots, at[..., None], -1)[..., 0] for at in (lower, upper)]
    length = jnp.where(upper > 0, ends[1] - ends[0], 1.0)
    part = jnp.where(upper > 0, (counts - ends[0]) / length, 1.0)
    line = jnp.zeros(len(packed.starts), kind)
    for corner in itertools.product((False, True), repeat=upper.shape[1]):
        is_upper = jnp.asarray(corner)
        index = packed.starts + (jnp.where(is_upper, upper, lower) * packed.strides).sum(-1)
        line = line + jnp.where(is_upper, part, 1 - part).prod(-1) * values[index]
    step = values[packed.starts + (upper * packed.strides).sum(-1)]
    return line + lax.stop_gradient(step - line)
