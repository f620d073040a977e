"""Means of (x, 1) (x, 1)^T: over the rows that count, and near enough to 0 to keep their spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxcompress.annotations import Array

__all__ = ["far_means", "moved_back", "per_row"]


def per_row(moments: Array) -> np.ndarray:
    """Divide sums of (x, 1) (x, 1)^T by the number of rows, which stands in their last corner.

    Rows that do not count are zero, their 1 too. Where no row counts, so are the means.

    Example:
        >>> per_row(np.array([[[8.0, 4.0], [4.0, 2.0]]])).tolist()
        [[[4.0, 2.0], [2.0, 1.0]]]
    """
    whole = np.asarray(moments, np.float64)
    count = whole[..., -1:, -1:]
    return whole / np.where(count > 0, count, 1.0)


def far_means(moments: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return the means that lie so far from 0 that float32 would lose the spread around them.

    Sites without any are left out; `float32[groups, rows + 1]`, 0 where nothing is lost.

    Example:
        >>> far_means({"a": np.array([[[4.0, 2.0], [2.0, 1.0]]])})
        {'a': array([[2., 0.]], dtype=float32)}
    """
    far = {}
    for path, moment in moments.items():
        whole = np.asarray(moment, np.float64)
        mean, square = whole[..., -1], np.diagonal(whole, axis1=-2, axis2=-1)
        spread = np.maximum(square - mean**2, 0)
        distant = np.where(mean**2 > 1e3 * spread, mean, 0)
        distant[..., -1] = 0
        if distant.any():
            # One for all steps of a scan: it need not be exact, only near.
            far[path] = distant.reshape(-1, *distant.shape[-2:]).mean(0).astype(np.float32)
    return far


def moved_back(moments: np.ndarray, away: np.ndarray | None) -> np.ndarray:
    """Return E[(x, 1) (x, 1)^T] from that of (x - a, 1).

    Example:
        >>> moved_back(np.array([[[0.0, 0.0], [0.0, 1.0]]]), np.array([[2.0, 0.0]])).tolist()
        [[[4.0, 2.0], [2.0, 1.0]]]
    """
    if away is None:
        return moments
    move = np.broadcast_to(np.eye(moments.shape[-1]), moments.shape).copy()
    move[..., :, -1] += away
    return move @ moments @ np.swapaxes(move, -1, -2)
