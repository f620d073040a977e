"""The variables that a stage leaves for later ones: saved by all processes, restored in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from jaxcompress import parallel, training
from jaxcompress.annotations import Array, PyTree

__all__ = ["restored", "save"]


def save(folder: Path, variables: PyTree) -> None:
    """Save the variables of a stage, wherever they lie."""
    training.save_checkpoint(folder, jax.device_get(variables), overwrite=True)


def restored(folder: Path, like: PyTree) -> Any:
    """Return what was saved, on one device of this process.

    Args:
        folder: where.
        like: variables of the same shapes, or their shapes.
    """
    if jax.process_count() == 1:
        return training.restore_checkpoint(folder, like)
    # Several processes read a checkpoint together, into arrays of all.
    whole = parallel.replicated(parallel.mesh())

    def everywhere(leaf: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)

    state = training.restore_checkpoint(folder, jax.tree.map(everywhere, like))
    return parallel.on_one_device(state)
