"""Means of (x, 1) (x, 1)^T: over the rows that count, and near enough to 0 to keep their spread.

On the host in float64; of traced moments in float32, inside the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.compression.precision import exact, namespace

__all__ = ["far_means", "moved_back", "per_row"]


def per_row(moments: Array) -> Any:
    """Divide sums of (x, 1) (x, 1)^T by the number of rows, which stands in their last corner.

    Rows that do not count are zero, their 1 too. Where no row counts, so are the means.

    Example:
        >>> per_row(np.array([[[8.0, 4.0], [4.0, 2.0]]])).tolist()
        [[[4.0, 2.0], [2.0, 1.0]]]
    """
    whole = exact(moments)
    count = whole[..., -1:, -1:]
    return whole / namespace(whole).where(count > 0, count, 1.0)


def far_means(moments: Mapping[str, Array]) -> dict[str, Any]:
    """Return the means that lie so far from 0 that float32 would lose the spread around them.

    Sites that are known to have none are left out; `float32[groups, rows + 1]`, 0 where nothing is
    lost.

    Example:
        >>> far_means({"a": np.array([[[4.0, 2.0], [2.0, 1.0]]])})
        {'a': array([[2., 0.]], dtype=float32)}
    """
    far = {}
    for path, moment in moments.items():
        whole, numpy = exact(moment), namespace(moment)
        mean, square = whole[..., -1], numpy.diagonal(whole, axis1=-2, axis2=-1)
        spread = numpy.maximum(square - mean**2, 0)
        is_one = np.arange(mean.shape[-1]) == mean.shape[-1] - 1
        distant = numpy.where(~is_one & (mean**2 > 1e3 * spread), mean, 0)
        if isinstance(distant, jax.core.Tracer) or distant.any():
            # One for all steps of a scan: it need not be exact, only near.
            far[path] = distant.reshape(-1, *distant.shape[-2:]).mean(0).astype(np.float32)
    return far


def moved_back(moments: Array, away: Array | None) -> Any:
    """Return E[(x, 1) (x, 1)^T] from that of (x - a, 1).

    Example:
        >>> moved_back(np.array([[[0.0, 0.0], [0.0, 1.0]]]), np.array([[2.0, 0.0]])).tolist()
        [[[4.0, 2.0], [2.0, 1.0]]]
    """
    if away is None:
        return moments
    unit = np.eye(moments.shape[-1], dtype=moments.dtype)
    move = unit + away[..., :, None] * unit[-1]
    if isinstance(moments, jax.core.Tracer):
        with jax.default_matmul_precision("highest"):
            return move @ moments @ move.mT
    return move @ moments @ np.swapaxes(move, -1, -2)
