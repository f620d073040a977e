"""What a checkpoint writes of a state: by Orbax, and from copies where the state goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.training import record

__all__ = ["Written", "copied", "write"]


class Written(Protocol):
    """A write that goes on."""

    def result(self) -> None:
        """Wait until all processes have written all, or raise what went wrong in this one."""


def write(folder: Path, state: PyTree) -> Written:
    """Begin to write a state; all processes do so together.

    Args:
        folder: that does not exist yet.
        state: a pytree of arrays; arrays on the host must not change until all is written.
    """
    from orbax.checkpoint import v1 as orbax  # heavy: not everyone who trains writes checkpoints

    # Orbax knows no scalars of NumPy.
    plain = jax.tree.map(lambda x: np.asarray(x) if isinstance(x, np.generic) else x, state)
    begun: Written = orbax.save_async(folder, jax.tree.map(record.stored, plain))
    return begun


def copied(state: PyTree) -> Any:
    """Copy a state to the host, so that its buffers may be donated at once.

    Keys are copied where they lie. What other processes hold parts of stays as it is: Orbax copies
    this process's parts when it begins to write.

    Example:
        >>> copied({"w": jnp.ones(2)})
        {'w': array([1., 1.], dtype=float32)}
    """
    leaves = [leaf for leaf in jax.tree.leaves(state) if _is_here(leaf)]
    for leaf in leaves:
        leaf.copy_to_host_async()  # all at once; below they are waited for one by one
    return jax.tree.map(_copy, state)


def _is_here(leaf: Array) -> bool:
    return isinstance(leaf, jax.Array) and not _is_key(leaf) and leaf.is_fully_addressable


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _copy(leaf: Array) -> Array:
    if not isinstance(leaf, jax.Array):
        return np.array(leaf)
    if _is_key(leaf):
        return jnp.copy(leaf)
    if leaf.is_fully_replicated:
        return np.array(leaf.addressable_data(0))  # on a CPU the buffer itself were shared
    return np.array(leaf) if leaf.is_fully_addressable else leaf
