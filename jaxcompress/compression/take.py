"""Take static indices from many arrays in one jitted call, keeping their shardings."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxcompress.annotations import Array

__all__ = ["take_leaves"]

Indices = Mapping[str, Mapping[int, np.ndarray]]


def take_leaves(leaves: Mapping[str, Array], indices: Indices) -> dict[str, Array]:
    """Take `indices[path][axis]` along each named axis of each leaf.

    Under a mesh the result is sharded like the leaf; an axis whose new width does not divide over
    its devices is replicated. `jax.ShapeDtypeStruct` leaves give such structs.

    Example:
        >>> take_leaves({"a": jnp.arange(4)}, {"a": {0: np.array([1, 3])}})["a"].tolist()
        [1, 3]
    """

    def take(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {path: _take(leaf, indices[path]) for path, leaf in arrays.items()}

    leaves = dict(leaves)
    if not leaves or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves.values()):
        return take(leaves)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()):
        return jax.eval_shape(take, leaves)
    shardings = {path: _sharding(leaf, indices[path]) for path, leaf in leaves.items()}
    return jax.jit(take, out_shardings=shardings)(leaves)


def _take(leaf: Array, axes: Mapping[int, np.ndarray]) -> Array:
    for axis, kept in axes.items():
        leaf = jnp.take(leaf, kept, axis=axis, unique_indices=True, mode="clip")
    return leaf


def _sharding(leaf: Array, axes: Mapping[int, np.ndarray]) -> NamedSharding | None:
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return None
    names = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
    for axis, kept in axes.items():
        mesh_axes = names[axis] if isinstance(names[axis], tuple) else (names[axis],)
        devices = int(
            np.prod([sharding.mesh.shape[name] for name in mesh_axes if name is not None])
        )
        if len(kept) % devices:
            names[axis] = None
    return NamedSharding(sharding.mesh, PartitionSpec(*names))
