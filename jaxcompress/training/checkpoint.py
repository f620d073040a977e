"""Checkpoints of a training run: Orbax, imported only when one is written or read.

A checkpoint continues a run on the same code. To keep or share a network, save an artifact instead.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import jax
from jax.sharding import SingleDeviceSharding

__all__ = ["restore", "save"]

State = TypeVar("State")


def save(directory: str | os.PathLike[str], state: Any, *, overwrite: bool = False) -> None:
    """Write a state, e.g. a `TrainState`, into a new directory.

    It appears whole or not at all: an interrupted write leaves no directory of that name.

    Args:
        directory: where to; must not exist unless `overwrite`.
        state: a pytree of arrays (PRNG keys included), sharded or not.
        overwrite: replace an earlier checkpoint.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is False.

    Example:
        >>> import tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> save(folder, {"step": jax.numpy.int32(3)})
        >>> int(restore(folder, like={"step": jax.numpy.int32(0)})["step"])
        3
    """
    if os.path.exists(directory) and not overwrite:
        raise FileExistsError(
            f"a checkpoint is written to a new directory, but {directory} exists; choose another "
            "one or pass overwrite=True"
        )
    from orbax.checkpoint import v1 as orbax  # heavy: not everyone who trains writes checkpoints

    orbax.save(os.path.abspath(directory), state, overwrite=overwrite)


def restore(directory: str | os.PathLike[str], like: State) -> State:
    """Read a state back with the structure, shapes, dtypes and shardings of `like`.

    Args:
        directory: where `save` wrote.
        like: a freshly made state, or its `jax.eval_shape`; leaves without a sharding are
            placed on the default device. Pass the state replicated over a mesh to restore there.

    Raises:
        FileNotFoundError: if there is no such directory.

    Example:
        >>> import tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> save(folder, {"w": jax.numpy.ones(2)})
        >>> restore(folder, like=jax.eval_shape(lambda: {"w": jax.numpy.zeros(2)}))
        {'w': Array([1., 1.], dtype=float32)}
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(
            f"a checkpoint is a directory that save() wrote, but there is none at {directory}; "
            "check the path, or start from init_state"
        )
    from orbax.checkpoint import v1 as orbax

    return orbax.load(os.path.abspath(directory), jax.tree.map(_abstract, like))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    leaf = leaf if hasattr(leaf, "dtype") else jax.numpy.asarray(leaf)
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
