"""The widths of a group at which time changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.graph import Cost

__all__ = ["timed_ends"]


def timed_ends(cost: Cost, name: str, ends: Sequence[int]) -> tuple[int, ...]:
    """Return those widths of a group beyond which time changes by the table, and the last; rising.

    Whatever lies between two of them takes as long as the wider.

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
        >>> grid = Grid(((8, 20, 32),), np.array([1.0, 2.0, 4.0]))
        >>> table = LatencyTable("toy", "by hand", "float32", 1, {"a": grid, "b": grid})
        >>> timed_ends(with_latency(graph, table).cost, "a[1]", range(1, 33))
        (8, 20, 32)
    """
    position = cost.names.index(name)
    entries = cost.multiplicity[:, position]
    if any(cost.multiplicity[axis, position] for term in cost.timed for axis in term.repeats):
        # Of layers of a scan each one counts.
        return tuple(ends)
    others = cost.multiplicity @ cost.dense + cost.fixed - entries * cost.dense[position]
    changes = {
        float((knot - others[axis]) / entries[axis])
        for term in cost.timed
        for axis, knots in zip(term.axes, term.knots, strict=True)
        if entries[axis]
        for knot in knots
    }
    places = np.searchsorted(np.asarray(ends), np.asarray(sorted(changes)) + 1e-9, side="right")
    return tuple(sorted({ends[place - 1] for place in places.tolist() if place} | {*ends[-1:]}))
