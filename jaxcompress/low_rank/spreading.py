"""Factors of kernels that are split over devices: made on one device, one kernel at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxcompress.annotations import Array
from jaxcompress.layouts import fit_layout, layout_of

__all__ = ["spread"]

Factors = Callable[[Mapping[str, Array]], dict[str, dict[str, Any]]]


def spread(factors: Factors, path: str, leaf: Array) -> dict[str, dict[str, Any]]:
    """Return the factors of one kernel, split over the axes of the mesh that the kernel is.

    A decomposition needs its matrix whole. Where other processes hold parts of it, every device
    decomposes it; else one does.

    Args:
        factors: of kernels by path.
        path: of the kernel.
        leaf: the kernel, on a mesh.

    Example:
        >>> import numpy as np
        >>> from jaxcompress import parallel
        >>> kernel = parallel.replicate(np.ones((2, 2)), parallel.mesh())
        >>> spread(lambda kernels: {path: {"first": k} for path, k in kernels.items()}, "a", kernel)
        {'a': {'first': Array([[1., 1.],
               [1., 1.]], dtype=float32)}}
    """
    layout = layout_of(leaf)
    assert layout is not None
    shape = leaf.shape
    if leaf.is_fully_addressable:
        leaf = jax.device_put(leaf, jax.local_devices()[0])
    made = factors({path: leaf})
    return jax.tree.map(
        lambda factor: jax.device_put(factor, fit_layout(layout, shape, factor.shape)), made
    )
