"""Leaves in the shape in which they are contracted, whoever wrote the layer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array

__all__ = ["rearranged"]


def rearranged(leaf: Array, steps: Sequence[tuple[str, Sequence[int]]]) -> Array:
    """Bring a leaf into the shape in which it is contracted; scanned axes stay in front.

    Example:
        >>> rearranged(jnp.ones((4, 2, 3)), [("slice", ()), ("transpose", (1, 0))]).shape
        (4, 3, 2)
    """
    if not steps:
        return leaf
    (name, numbers), rest = steps[0], steps[1:]
    if name == "slice":
        return jax.vmap(lambda row: rearranged(row, rest))(leaf)
    changed = jnp.transpose(leaf, numbers) if name == "transpose" else leaf.reshape(numbers)
    return rearranged(changed, rest)
