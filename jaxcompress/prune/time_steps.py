"""The widths of a group beyond which a wider one costs more time, which need not all do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.graph import Cost

__all__ = ["timed_ends"]


def timed_ends(cost: Cost, name: str, ends: Sequence[int]) -> tuple[int, ...]:
    """Return those widths of a group that no wider one takes as little time as, rising.

    On a processor that works in tiles 57 channels may take longer than 64: then 57 is no width to
    choose. The other groups are whole.

    Args:
        cost: with a table of latencies.
        name: of the group.
        ends: the widths that it may have, rising.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.latency import Grid, LatencyTable, with_latency
        >>> variables = {"a": jnp.ones((3, 32)), "b": jnp.ones((32, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> grid = Grid(((8, 16, 24, 32),), np.array([1.0, 2.0, 9.0, 4.0]))
        >>> table = LatencyTable("toy", "by hand", "float32", 1, {"a": grid, "b": grid})
        >>> timed_ends(with_latency(graph, table).cost, "a[1]", range(1, 33))
        (8, 16, 32)
    """
    position = cost.names.index(name)
    chosen: list[int] = []
    least = np.inf
    for width in reversed(_candidates(cost, position, ends)):
        widths = np.array(cost.dense)
        widths[position] = width
        time = float(cost.latency(widths))
        if time < least:
            chosen.append(width)
            least = time
    return tuple(reversed(chosen))


def _candidates(cost: Cost, position: int, ends: Sequence[int]) -> list[int]:
    """Return the last of the ends before time may change, and the last of all; rising."""
    entries, others = cost.multiplicity[:, position], cost.multiplicity @ cost.dense + cost.fixed
    others = others - entries * cost.dense[position]
    steps = {
        float((knot - others[axis]) / entries[axis])
        for term in cost.timed
        for axis, knots in zip(term.axes, term.knots, strict=True)
        if entries[axis]
        for knot in knots
    }
    places = np.searchsorted(np.asarray(ends), np.asarray(sorted(steps)) + 1e-9, side="right")
    return sorted({ends[place - 1] for place in places.tolist() if place} | {*ends[-1:]})
