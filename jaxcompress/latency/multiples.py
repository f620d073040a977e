"""Which multiple of channels a device asks for."""

from __future__ import annotations

import math

import numpy as np

from jaxcompress.arguments import real, require
from jaxcompress.latency.table import Grid, LatencyTable

__all__ = ["suggested_multiple"]


def suggested_multiple(table: LatencyTable, tolerance: float = 0.02) -> int:
    """Return the smallest step of widths that changes the time of most of the table.

    Of each axis of each grid: how many channels must go from the whole, the other widths being
    whole, before time falls by more than a part `tolerance`. The answer is the median over axes,
    each weighted by the seconds of its operation, rounded up to a power of two; for
    `select(multiple_of=)` where latency itself is no budget. No step finer than the grid's is seen.

    Args:
        table: see `latency_table`.
        tolerance: falls of time that are none.

    Raises:
        ValueError: if no axis of the table can shrink, or none saves time.

    Example:
        >>> grid = Grid(((8, 16, 24, 32),), np.array([1.0, 1.0, 3.0, 3.0]))
        >>> suggested_multiple(LatencyTable("toy", "by hand", "float32", 1, {"a": grid}))
        16
    """
    require(tolerance=real(tolerance, least=0, below=1))
    steps = [
        (step, grid.whole)
        for grid in table.sites.values()
        for axis in range(len(grid.widths))
        if (step := _step(grid, axis, tolerance)) is not None
    ]
    if not steps:
        raise ValueError(
            "a multiple is suggested by widths that save time, but no axis of the table does; "
            "make a table of more points, or of a larger batch"
        )
    sizes, weights = (np.asarray(values, float) for values in zip(*sorted(steps), strict=True))
    median = sizes[np.searchsorted(np.cumsum(weights), weights.sum() / 2)]
    return 2 ** math.ceil(math.log2(median))


def _step(grid: Grid, axis: int, tolerance: float) -> int | None:
    """Return how many channels of an axis must go before time falls; None where it never does."""
    line = np.moveaxis(grid.seconds, axis, -1)[(-1,) * (grid.seconds.ndim - 1)]
    falls = np.flatnonzero(line < (1 - tolerance) * line[-1])
    return None if not len(falls) else int(grid.widths[axis][-1] - grid.widths[axis][falls[-1]])
