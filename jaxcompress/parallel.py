"""Data parallelism: one mesh over all devices, the variables on each, the batch split among them.

A step stays a pure function of whole arrays; ``jax.jit`` splits it by the shardings of its inputs.
One device is a mesh of one, so no code distinguishes the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.processes import exchanged, gathered

__all__ = [
    "batch_parts",
    "batch_sharding",
    "host_device",
    "mesh",
    "of_processes",
    "on_host",
    "on_one_device",
    "pad_batch",
    "replicate",
    "replicated",
    "shard_batch",
]


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
    """The sharding of an array whose axis number `axis` is split over the first axis of `mesh`.

    Example:
        >>> tuple(batch_sharding(mesh(jax.devices()[:1]), axis=1).spec)
        (None, 'data')
    """
    require(axis=integer(axis, least=0))
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, mesh.axis_names[0]))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Copy every leaf of `tree` to every device of `mesh`; what lies there already is shared.

    With several processes each passes the same values, on the host or on devices of its own.

    Example:
        >>> replicate({"scale": np.ones(2)}, mesh(jax.devices()[:1]))
        {'scale': Array([1., 1.], dtype=float32)}
    """
    whole = replicated(mesh)
    if whole.is_fully_addressable:
        return jax.device_put(tree, whole)
    return jax.tree.map(lambda leaf: _replicated(leaf, whole), tree)


def _replicated(leaf: Array, whole: NamedSharding) -> jax.Array:
    """Copy an array to devices of other processes too, by way of the host."""
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = _replicated(jax.random.key_data(leaf), whole)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        leaf = np.asarray(leaf)
    return jax.device_put(leaf, whole)


def on_one_device(tree: PyTree, device: jax.Device | None = None) -> PyTree:
    """Put every leaf of `tree` on one device of this process, by default its first.

    Raises:
        ValueError: if other processes hold parts of a leaf that this one lacks.

    Example:
        >>> on_one_device({"scale": np.ones(2)})["scale"].devices() == {jax.local_devices()[0]}
        True
    """
    spread = _shapes(tree, _is_spread)
    if spread:
        raise ValueError(
            "one device takes what this process holds whole, but parts of these leaves lie in "
            f"other processes: {spread}; pass them through parallel.replicate first"
        )
    device = device or jax.local_devices()[0]

    def moved(leaf: Array) -> jax.Array:
        is_elsewhere = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return jax.device_put(leaf.addressable_data(0) if is_elsewhere else leaf, device)

    return jax.tree.map(moved, tree)


def _is_spread(leaf: Array) -> bool:
    is_array = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return is_array and not leaf.is_fully_addressable and not leaf.is_fully_replicated


def on_host(array: Array) -> np.ndarray:
    """Return an array on the host, gathered where other processes hold parts of it.

    All processes that hold parts call this together.

    Example:
        >>> on_host(jax.numpy.arange(3)).tolist()
        [0, 1, 2]
    """
    return np.asarray(gathered(array))


def of_processes(numbers: Sequence[int], mesh: Mesh) -> np.ndarray:
    """Return what every process of a mesh says, `int[processes, len(numbers)]`.

    Example:
        >>> of_processes([3, 4], mesh(jax.devices()[:1])).tolist()
        [[3, 4]]
    """
    own_numbers = np.asarray(numbers, np.int32)
    if replicated(mesh).is_fully_addressable:
        return own_numbers[None]
    return np.asarray(exchanged("numbers of each", own_numbers.tolist()), np.int32)


def host_device() -> jax.Device:
    """Return the CPU of this process, or its first device where JAX runs without CPUs.

    Example:
        >>> host_device().platform
        'cpu'
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names an accelerator alone
        return jax.local_devices()[0]


def batch_parts(mesh: Mesh) -> int:
    """Return into how many parts this process splits its part of a batch: over the first axis.

    Example:
        >>> batch_parts(mesh(jax.devices()[:1]))
        1
    """
    here = jax.process_index()
    places = [index for index, d in np.ndenumerate(mesh.devices) if d.process_index == here]
    return len({first for first, *_ in places})


def shard_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """Split the leading axis of every leaf of `tree` over the first axis of `mesh`.

    With several processes each passes its own part of the batch.

    Raises:
        ValueError: if a leading axis does not divide by `batch_parts(mesh)`.

    Example:
        >>> shard_batch({"label": np.arange(3)}, mesh(jax.devices()[:1]))["label"].shape
        (3,)
    """
    devices = batch_parts(mesh)
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


def _shapes(
    tree: PyTree, which: Callable[[Any], bool] = lambda leaf: True
) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf, or of some, by its path."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    name = jax.tree_util.keystr
    return {
        name(path, simple=True, separator="/"): np.shape(leaf)
        for path, leaf in pairs
        if which(leaf)
    }


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
