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
    leaves, kept = dict(leaves), {path: dict(indices[path]) for path in leaves}
    if not leaves or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves.values()):
        return _take_all(leaves, kept)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()):
        return jax.eval_shape(_take_all, leaves, kept)
    shardings = {path: _sharding(leaf, kept[path]) for path, leaf in leaves.items()}
    if all(sharding is None for sharding in shardings.values()):
        return _compiled(leaves, kept)
    return jax.jit(_take_all, out_shardings=shardings)(leaves, kept)


def _take_all(leaves: Mapping[str, Array], indices: Indices) -> dict[str, Array]:
    return {path: _take(leaf, indices[path]) for path, leaf in leaves.items()}


# The indices are arguments: other ones of the same number, or moments after variables, compile
# nothing more.
_compiled = jax.jit(_take_all)


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
