"""Take static indices from many arrays in one jitted call, keeping what is split over devices so.

Taken along an axis that is split, an array would be gathered, or as much of it as is kept, on every
device. Where another axis divides, the array is split along that one while it is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxcompress.annotations import Array
from jaxcompress.layouts import fit_layout, is_split, layout_of

__all__ = ["program_of", "take_leaves"]

Indices = Mapping[str, Mapping[int, np.ndarray]]
Between = tuple[tuple[str, NamedSharding], ...]


def take_leaves(leaves: Mapping[str, Array], indices: Indices) -> dict[str, Array]:
    """Take `indices[path][axis]` along each named axis of each leaf.

    Under a mesh the result is split over the same axes of the mesh as the leaf, see
    `jaxcompress.layouts`. `jax.ShapeDtypeStruct` leaves give such structs.

    Example:
        >>> take_leaves({"a": jnp.arange(4)}, {"a": {0: np.array([1, 3])}})["a"].tolist()
        [1, 3]
    """
    leaves, kept = dict(leaves), {path: dict(indices[path]) for path in leaves}
    if not leaves or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves.values()):
        return _take_all(leaves, kept)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()):
        return jax.eval_shape(_take_all, leaves, kept)
    return program_of(leaves, kept)(leaves, kept)


def program_of(leaves: Mapping[str, Array], indices: Indices) -> Any:
    """Return the jitted function of leaves and indices that takes from leaves so laid out."""
    after: dict[str, NamedSharding | None] = {}
    between = []
    for path, leaf in leaves.items():
        layout, axes = layout_of(leaf), indices[path]
        if layout is None:
            after[path] = None
            continue
        small = [len(axes.get(axis, range(size))) for axis, size in enumerate(leaf.shape)]
        after[path] = fit_layout(layout, leaf.shape, small)
        moved = fit_layout(layout, leaf.shape, leaf.shape, busy=axes)
        # Where no other axis divides, XLA adds up what each device has of the kept ones.
        if is_split(leaf) and _part(moved, leaf) == _part(layout, leaf):
            between.append((path, moved))
    if all(layout is None for layout in after.values()):
        return _compiled
    return _laid_out(tuple(after.items()), tuple(between))


def _part(layout: NamedSharding, leaf: Array) -> int:
    """Count the numbers that one device holds."""
    return int(np.prod(layout.shard_shape(leaf.shape)))


def _take_all(
    leaves: Mapping[str, Array], indices: Indices, between: Between = ()
) -> dict[str, Array]:
    layouts = dict(between)
    return {path: _take(leaf, indices[path], layouts.get(path)) for path, leaf in leaves.items()}


# The indices are arguments: other ones of the same number, or moments after variables, compile
# nothing more.
_compiled = jax.jit(_take_all)


@functools.lru_cache(maxsize=256)
def _laid_out(
    after: tuple[tuple[str, NamedSharding | None], ...], between: Between
) -> Callable[..., Any]:
    function = functools.partial(_take_all, between=between)
    return jax.jit(function, out_shardings=dict(after))


def _take(leaf: Array, axes: Mapping[int, np.ndarray], between: NamedSharding | None) -> Array:
    held = functools.partial(jax.lax.with_sharding_constraint, shardings=between)
    leaf = leaf if between is None else held(leaf)
    for axis, kept in axes.items():
        leaf = jnp.take(leaf, kept, axis=axis, unique_indices=True, mode="clip")
    return leaf if between is None else held(leaf)
