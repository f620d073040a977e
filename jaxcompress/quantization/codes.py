"""Kernels as codes and scales, and back: arrays and how a site lays them out.

A site is described by its `shape`, `dtype`, `steps`, `layout`, `bits`, `tile` and `candidates`.
Codes and scales lie as the kernel is contracted, with the axes of scans in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.quantization.library import coded, dequantized

__all__ = [
    "LEAST",
    "code_shapes",
    "kernel_shape",
    "packed",
    "restored",
    "rounded",
    "scanned_axes",
    "unpacked",
]

Described = Mapping[str, Any]

LEAST = 0.4
"""The least share of the largest weight that is tried as the end of the range."""


def scanned_axes(site: Described) -> int:
    """Return how many axes, in front, are those of scans."""
    return sum(name == "slice" for name, _ in site["steps"])


def kernel_shape(site: Described) -> tuple[int, ...]:
    """Return the shape of a kernel as it is contracted, the axes of scans in front.

    Example:
        >>> kernel_shape({"shape": [2, 3], "steps": [["transpose", [1, 0]]]})
        (3, 2)
    """
    leaf = jax.ShapeDtypeStruct(tuple(site["shape"]), jnp.float32)
    return tuple(jax.eval_shape(lambda kernel: rearranged(kernel, site["steps"]), leaf).shape)


def code_shapes(site: Described) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes in which the codes and the scales of a kernel are stored.

    Example:
        >>> layout = {"contracted": [0], "batch": [], "free": [1]}
        >>> code_shapes({"shape": [4, 3], "steps": [], "layout": layout, "bits": 4, "tile": 2})
        ((6,), (2, 3))
    """
    shape, scanned = kernel_shape(site), scanned_axes(site)
    kernel, tiles = shape[scanned:], _tiles_of(site)
    kept = _scaled_axes(site, len(kernel))
    scales = [
        size if axis in kept else size // tiles.get(axis, size) for axis, size in enumerate(kernel)
    ]
    stored = ((int(np.prod(kernel)) + 1) // 2,) if site["bits"] == 4 else kernel
    return (*shape[:scanned], *stored), (*shape[:scanned], *scales)


def _scaled_axes(site: Described, count: int) -> list[int]:
    """Return the axes of a contracted kernel along which each index has a scale of its own.

    Args:
        site: described.
        count: of the kernel's axes.
    """
    layout = site["layout"]
    if "window" in layout:
        return [layout["output"]]
    return [axis for axis in range(count) if axis not in layout["contracted"]]


def _tiles_of(site: Described) -> dict[int, int]:
    """Return how many inputs share a scale, by the axis that they lie along."""
    return {} if site["tile"] is None else {site["layout"]["contracted"][-1]: site["tile"]}


def rounded(leaf: Array, site: Described) -> tuple[jax.Array, jax.Array]:
    """Round a kernel to codes and scales.

    Of as many ends of the range as there are candidates, evenly from the largest weight down to
    `LEAST` of it, each scale takes the one with the least sum of squared errors.

    Args:
        leaf: the kernel, as it is stored.
        site: described.

    Returns:
        `int8[scanned..., kernel]` and float32 scales, of size 1 along the axes that share them.
    """
    function = partial(_rounded, site=site)
    for name, _ in site["steps"]:
        function = jax.vmap(function) if name == "slice" else function
    return function(rearranged(jnp.asarray(leaf).astype(jnp.float32), site["steps"]))


def _rounded(kernel: jax.Array, site: Described) -> tuple[jax.Array, jax.Array]:
    axes, tiles = _scaled_axes(site, kernel.ndim), _tiles_of(site)
    shares = np.linspace(1.0, LEAST, site["candidates"])
    best, least = coded(kernel, axes, site["bits"], tiles), None
    for share in shares[1:]:
        other = coded(kernel, axes, site["bits"], tiles, float(share))
        least = _squared(kernel, best) if least is None else least
        error = _squared(kernel, other)
        better = error < least
        least = jnp.where(better, error, least)
        codes = jnp.where(_spread(better, kernel.shape), other[0], best[0])
        best = codes, jnp.where(better, other[1], best[1])
    return best


def _squared(kernel: jax.Array, made: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return the sum of squared errors of what shares each scale, in the shape of the scales."""
    codes, scales = made
    blocks = [
        size for parts in zip(scales.shape, kernel.shape, strict=True) for size in _block(*parts)
    ]
    errors = jnp.square(dequantized(codes, scales) - kernel).reshape(blocks)
    return errors.sum(tuple(range(1, len(blocks), 2)))


def _spread(flags: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Repeat what is said of each scale for all that share it."""
    for axis, size in enumerate(shape):
        flags = jnp.repeat(flags, size // flags.shape[axis], axis)
    return flags


def _block(scales: int, size: int) -> tuple[int, int]:
    return scales, size // scales


def restored(codes: jax.Array, scales: jax.Array, site: Described) -> jax.Array:
    """Return the kernel that codes stand for, in the shape in which it was stored; float32."""
    function = dequantized
    for name, _ in site["steps"]:
        function = jax.vmap(function) if name == "slice" else function
    leaf = jax.ShapeDtypeStruct(tuple(site["shape"]), jnp.float32)
    # The way there only moves entries, so that its transpose is its inverse.
    back = jax.linear_transpose(lambda kernel: rearranged(kernel, site["steps"]), leaf)
    (kernel,) = back(function(codes, scales))
    return kernel


def packed(codes: jax.Array, scanned: int) -> jax.Array:
    """Store codes of 4 bits two to a byte, the first in the lower half.

    Args:
        codes: `int8[scanned..., kernel]`.
        scanned: how many axes are those of scans.

    Returns:
        `uint8[scanned..., bytes]`.

    Example:
        >>> packed(jnp.array([1, -1, 7], jnp.int8), 0).tolist()
        [241, 7]
    """
    flat = codes.reshape(*codes.shape[:scanned], -1)
    odd = flat.shape[-1] % 2
    flat = jnp.pad(flat, [(0, 0)] * scanned + [(0, odd)])
    nibbles = (flat & 15).astype(jnp.uint8)
    return nibbles[..., ::2] | (nibbles[..., 1::2] << 4)


def unpacked(stored: jax.Array, shape: tuple[int, ...], scanned: int) -> jax.Array:
    """Undo `packed`, for codes of a shape.

    Example:
        >>> unpacked(jnp.array([241, 7], jnp.uint8), (3,), 0).tolist()
        [1, -1, 7]
    """
    # In floats, as every runtime has them: not all shift bytes.
    byte = stored.astype(jnp.float32)
    high = jnp.floor(byte / 16)
    low, high = (half - 16 * (half >= 8) for half in (byte - 16 * high, high))
    both = jnp.stack([low, high], -1).astype(jnp.int8).reshape(*stored.shape[:-1], -1)
    count = int(np.prod(shape[scanned:], dtype=np.int64))
    return both[..., :count].reshape(shape)
