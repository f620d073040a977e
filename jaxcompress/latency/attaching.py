"""A graph whose cost knows latency: a table's grids joined to the operations of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxcompress.graph import Graph, Operation, TimedTerm
from jaxcompress.latency.table import Grid, LatencyTable

__all__ = ["check_table", "with_latency"]


def with_latency(graph: Graph, table: LatencyTable) -> Graph:
    """Return a graph whose cost counts "latency" too, in microseconds, by a table.

    latency(widths) = sum over operations l of repeats_l x seconds_l(widths), each width rounded up
    to the next of the grid; 0 where one is 0. So a group has, under a budget of latency, the widths
    of its grids. Time may rise as channels go: where more of them fit, `select` takes them. Norms,
    activations and what else is no conv or dot is not in it.

    Args:
        graph: of the function that the table was made for, or of one shrunk from it: its
            operations are found by name and may be narrower.
        table: see `latency_table`.

    Raises:
        ValueError: if operations and grids do not fit; all are named.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import Budget, trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> grid = Grid(((2, 4),), np.array([1e-6, 4e-6]))
        >>> table = LatencyTable("toy", "by hand", "float32", 1, {"a": grid, "b": grid})
        >>> graph = with_latency(trace(apply, variables, jnp.ones((1, 3))), table)
        >>> [float(graph.cost.of("latency", np.array([n]))) for n in (4, 3, 2, 1)]
        [8.0, 8.0, 2.0, 2.0]
        >>> Budget(latency=0.25).of(graph)
        Budget(flops=None, params=None, bytes=None, latency=2.0)
    """
    check_table(graph, table)
    terms = tuple(_term(one, table.sites[one.name]) for one in graph.operations)
    return replace(graph, cost=replace(graph.cost, timed=terms))


def check_table(graph: Graph, table: LatencyTable) -> None:
    """Raise unless a table has a grid for every operation of a graph, and for no other.

    Raises:
        ValueError: naming all that do not fit.
    """
    names = {operation.name for operation in graph.operations}
    offences = [f"{name}: not in the table" for name in sorted(names - set(table.sites))]
    offences += [f"{name}: not in the graph" for name in sorted(set(table.sites) - names)]
    if table.batch != graph.examples:
        offences.append(f"batches of {graph.examples} of the graph, {table.batch} of the table")
    for one in graph.operations:
        if one.name in table.sites:
            offences += _misfits(one.name, one.widths, table.sites[one.name])
    if offences:
        shown = offences[:8] + ([f"and {len(offences) - 8} more"] if len(offences) > 8 else [])
        raise ValueError(
            "a table is of the operations of its graph, or of one that this was shrunk from, but "
            + "; ".join(shown)
            + "; make one by latency_table or measured_latency"
        )


def _misfits(name: str, widths: Sequence[int], grid: Grid) -> list[str]:
    last = tuple(knots[-1] for knots in grid.widths)
    fits = len(last) == len(widths) and all(n <= m for n, m in zip(widths, last, strict=True))
    return [] if fits else [f"{name}: widths {tuple(widths)} of the graph, {last} of the table"]


def _term(operation: Operation, grid: Grid) -> TimedTerm:
    # A width of 0 costs nothing: the operation is gone.
    padded = np.zeros([1 + len(widths) for widths in grid.widths])
    padded[(slice(1, None),) * padded.ndim] = 1e6 * grid.seconds
    knots = tuple((0, *widths) for widths in grid.widths)
    return TimedTerm(
        operation.name, operation.axes, knots, padded, operation.repeats, float(operation.times)
    )
