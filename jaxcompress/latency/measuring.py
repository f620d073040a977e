"""Making tables: each conv and dot alone, at a grid of widths, on a device or by a compiler."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.arguments import integer, require
from jaxcompress.graph import Graph, Operation
from jaxcompress.graph.symbolic import is_symbolic
from jaxcompress.latency.grids import width_grid
from jaxcompress.latency.table import Grid, LatencyTable

__all__ = ["Seconds", "latency_table", "measured_latency", "measured_seconds"]

Seconds = Callable[[Operation, tuple[jax.ShapeDtypeStruct, ...]], float]
Widths = Callable[[int], Sequence[int]]


def latency_table(
    graph: Graph,
    seconds: Seconds,
    *,
    device: str,
    how: str,
    grid: Widths = width_grid,
    groups: Collection[str] | None = None,
) -> LatencyTable:
    """Ask for the time of every operation at a grid of widths; those of the same shape once.

    Args:
        graph: traced at the batch and the types that are meant; `jax.ShapeDtypeStruct` will do.
        seconds: `seconds(operation, inputs) -> float`: what `operation.run(*inputs)` takes at
            abstract operands; for example what a compiler estimates for a device that is not there.
        device: what it is the time of.
        how: how it is known.
        grid: `grid(width) -> widths` of an axis, rising to the whole; others than the default by
            `functools.partial(width_grid, points=4)`.
        groups: those that may shrink, default all; axes of others are taken whole alone.

    Raises:
        ValueError: if a group is unknown, or if an operation has sizes that are no numbers, or
            takes a time that depends on values (`ragged_dot`); all are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 16)), "b": jnp.ones((16, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> size = lambda operation, inputs: float(inputs[1].size)
        >>> table = latency_table(graph, size, device="toy", how="by hand")
        >>> {name: grid.seconds.tolist() for name, grid in table.sites.items()}
        {'a': [24.0, 48.0], 'b': [16.0, 32.0]}
    """
    _check(graph, groups)
    shrinks = _shrinking(graph, groups)
    known: dict[tuple[str, tuple[bool, ...]], Grid] = {}
    sites = {}
    for operation in graph.operations:
        key = operation.same_as, tuple(bool(shrinks[place]) for place in operation.axes)
        if key not in known:
            known[key] = _measured_grid(operation, seconds, grid, key[1])
        sites[operation.name] = known[key]
    dtypes = {str(x.dtype) for one in graph.operations for x in one.inputs(one.widths)}
    return LatencyTable(device, how, ", ".join(sorted(dtypes)), graph.examples, sites)


def measured_latency(
    graph: Graph,
    *,
    repeats: int = 10,
    grid: Widths = width_grid,
    groups: Collection[str] | None = None,
) -> LatencyTable:
    """Measure every operation of a graph on the first device here, each compiled alone.

    Args:
        graph: see `latency_table`.
        repeats: see `measured_seconds`.
        grid: see `latency_table`.
        groups: see `latency_table`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 16)), "b": jnp.ones((16, 2))}
        >>> graph = trace(apply, variables, jnp.ones((4, 3)))
        >>> table = measured_latency(graph, repeats=1, grid=lambda width: [width])
        >>> table.batch, table.sites["a"].widths, table.seconds > 0
        (4, ((16,),), True)
    """
    seconds, device = measured_seconds(repeats), jax.devices()[0].device_kind
    return latency_table(graph, seconds, device=device, how="measured", grid=grid, groups=groups)


def measured_seconds(repeats: int = 10) -> Seconds:
    """Return what times one operation on the first device here, for `latency_table`.

    The median of the calls counts, on normal numbers, after one that is not counted. A call is
    timed until its result is there, so that what starting a program takes counts once an operation:
    for times far below it, measure larger batches.

    Args:
        repeats: calls of each operation at each widths.

    Example:
        >>> from jaxcompress.graph import trace
        >>> graph = trace(lambda variables, x: x @ variables, jnp.ones((3, 2)), jnp.ones((4, 3)))
        >>> (operation,) = graph.operations
        >>> measured_seconds(repeats=1)(operation, operation.inputs(operation.widths)) > 0
        True
    """
    require(repeats=integer(repeats))

    def seconds(operation: Operation, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> float:
        operands = [_drawn(number, one) for number, one in enumerate(inputs)]
        run = jax.jit(operation.run).lower(*operands).compile()
        jax.block_until_ready(run(*operands))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            jax.block_until_ready(run(*operands))
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    return seconds


def _shrinking(graph: Graph, groups: Collection[str] | None) -> np.ndarray:
    """Return `bool[axes]`, which axes of the cost hold channels of the groups."""
    named = [groups is None or name in groups for name in graph.cost.names]
    return graph.cost.multiplicity @ np.asarray(named, float) > 0


def _measured_grid(
    operation: Operation, seconds: Seconds, grid: Widths, shrinks: tuple[bool, ...]
) -> Grid:
    axes = zip(operation.widths, operation.grains, shrinks, strict=True)
    widths = tuple(
        tuple(width for width in (grid(whole) if may else [whole]) if width % grain == 0)
        for whole, grain, may in axes
    )
    times = [seconds(operation, operation.inputs(at)) for at in itertools.product(*widths)]
    return Grid(widths, np.reshape(times, [len(knots) for knots in widths]))


def _drawn(number: int, like: jax.ShapeDtypeStruct) -> jax.Array:
    if not jnp.issubdtype(like.dtype, jnp.floating):
        return jnp.ones(like.shape, like.dtype)
    # On the host: each shape would compile a program of its own to draw on the device.
    return jnp.asarray(np.random.default_rng(number).standard_normal(like.shape), like.dtype)


def _check(graph: Graph, groups: Collection[str] | None) -> None:
    unknown = sorted(set(groups or ()) - set(graph.cost.names))
    if unknown:
        raise ValueError(f"groups are of the graph, but {unknown} are not; print(graph) lists them")
    wrong = [one.name for one in graph.operations if _is_unknown(one.operands)]
    ragged = [one.name for one in graph.operations if len(one.equation.invars) != 2]
    if wrong or ragged:
        raise ValueError(
            "an operation is timed alone, at sizes that are numbers and at any values, but "
            f"{wrong + ragged} are not; trace at numbers, without ragged dots"
        )


def _is_unknown(operands: Sequence[Sequence[Any]]) -> bool:
    return any(is_symbolic(side.size) for sides in operands for side in sides)
