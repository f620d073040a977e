"""Singular values without singular vectors, fast enough for whole networks on a few cores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["singular_values"]


def singular_values(matrices: ArrayLike) -> np.ndarray:
    """Return the singular values in falling order, `float64[..., min(rows, columns)]`.

    They are the roots of the eigenvalues of the smaller Gram matrix, in float64: about 3 times
    faster than a singular value decomposition. Values below 1e-8 of the largest are rounding. A
    matrix that is not finite gets NaN, which `sites_from_costs` refuses by name.

    Args:
        matrices: `float[..., rows, columns]`, of any float type; same-shaped sites may be stacked.

    Example:
        >>> singular_values(np.diag([1.0, 3.0, 2.0])).round(6).tolist()
        [3.0, 2.0, 1.0]
    """
    wide = np.asarray(matrices, np.float64)
    if wide.shape[-2] > wide.shape[-1]:
        wide = wide.swapaxes(-1, -2)
    finite = np.asarray(np.isfinite(wide).all((-2, -1)))[..., None]
    wide = np.where(finite[..., None], wide, 0.0)
    eigenvalues = np.linalg.eigvalsh(wide @ wide.swapaxes(-1, -2))[..., ::-1]
    return np.where(finite, np.sqrt(np.maximum(eigenvalues, 0.0)), np.nan)
