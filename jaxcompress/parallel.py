"""Data parallelism: one mesh over all devices, the variables on each, the batch split among them.

A step stays a pure function of whole arrays; ``jax.jit`` splits it by the shardings of its inputs.
One device is a mesh of one, so no code distinguishes the cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, require

__all__ = ["batch_sharding", "mesh", "pad_batch", "replicate", "replicated", "shard_batch"]


def mesh(devices: Sequence[jax.Device] | None = None, axis: str = "data") -> Mesh:
    """Arrange devices (default: all, of all processes) along one axis.

    Example:
        >>> dict(mesh(jax.devices()[:1]).shape)
        {'data': 1}
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device of `mesh` holds whole.

    Example:
        >>> tuple(replicated(mesh(jax.devices()[:1])).spec)
        ()
    """
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding of an array whose axis number `axis` is split over the devices of `mesh`.

    Example:
        >>> tuple(batch_sharding(mesh(jax.devices()[:1]), axis=1).spec)
        (None, 'data')
    """
    require(axis=integer(axis, least=0))
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, mesh.axis_names[0]))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Copy every leaf of `tree` to every device of `mesh`; what lies there already is shared.

    Example:
        >>> replicate({"scale": np.ones(2)}, mesh(jax.devices()[:1]))
        {'scale': Array([1., 1.], dtype=float32)}
    """
    return jax.device_put(tree, replicated(mesh))


def shard_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """Split the leading axis of every leaf of `tree` over the devices of `mesh`.

    With several processes each passes its own part of the batch.

    Raises:
        ValueError: if a leading axis does not divide by this process's number of devices.

    Example:
        >>> shard_batch({"label": np.arange(3)}, mesh(jax.devices()[:1]))["label"].shape
        (3,)
    """
    devices = len(mesh.local_devices)
    shapes = _shapes(tree)
    uneven = {path: shape for path, shape in shapes.items() if not shape or shape[0] % devices}
    if uneven:
        raise ValueError(
            f"the leading axis of a batch is split over {devices} devices and must divide by that, "
            f"but these shapes do not: {uneven}; pass the batch through pad_batch first"
        )
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf, by its path."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    name = jax.tree_util.keystr
    return {name(path, simple=True, separator="/"): np.shape(leaf) for path, leaf in pairs}


def pad_batch(batch: Batch, multiple: int) -> tuple[Any, np.ndarray]:
    """Lengthen a batch to a multiple of `multiple` and say which examples are real.

    The last example is repeated rather than zeros appended: what is finite on data stays finite.

    Args:
        batch: tree of host arrays `[batch, ...]`, all of one batch size.
        multiple: the number of devices, or the batch size to fill up.

    Returns:
        The padded tree `[padded, ...]` and a mask `bool[padded]`, True for the given examples.

    Raises:
        ValueError: if the batch is empty or its leaves differ in batch size.

    Example:
        >>> padded, mask = pad_batch({"label": np.arange(3)}, multiple=2)
        >>> padded["label"].tolist(), mask.tolist()
        ([0, 1, 2, 2], [True, True, True, False])
    """
    require(multiple=integer(multiple))
    sizes = {path: shape[:1] for path, shape in _shapes(batch).items()}
    if len(set(sizes.values())) != 1 or not all(size and size[0] for size in sizes.values()):
        raise ValueError(
            "all leaves of a batch share one leading axis of at least one example, "
            f"but theirs are {sizes}; index all of them with the same examples"
        )
    (size,) = next(iter(sizes.values()))
    missing = -size % multiple

    def pad(leaf: Array) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)]) if missing else leaf

    return jax.tree.map(pad, batch), np.arange(size + missing) < size
