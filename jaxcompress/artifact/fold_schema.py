"""What the spec of a folding may say: kernels of their leaf's size, and leaves that are empty."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import jax.numpy as jnp

from jaxcompress.annotations import Json
from jaxcompress.artifact.shape_schema import Shapes, is_shape, shapes_before

__all__ = ["fold_problems"]


def fold_problems(leaves: Mapping[str, Json], shapes: Shapes, _: Any) -> tuple[list[str], Shapes]:
    """Follow a folding backwards: what is wrong with it, and the shapes before it.

    Example:
        >>> spare = {"shape": [8], "dtype": "float32"}
        >>> fold_problems({"gain": spare}, {"gain": (0,), "a": (3,)}, {})
        ([], {'gain': (8,), 'a': (3,)})
        >>> fold_problems({"gain": spare}, {"gain": (8,)}, {})[0]
        ['gain: folded to (0,), but (8,) is stored']
    """
    return shapes_before(leaves, shapes, _problem, _left, "folded")


def _left(leaf: Json) -> tuple[int, ...]:
    return tuple(leaf["kernel"]["shape"]) if "kernel" in leaf else (0,)


def _problem(leaf: Json) -> str | None:
    if not _is_described(leaf):
        return "no shape and dtype"
    if "kernel" not in leaf:
        return None
    if not _is_described(leaf["kernel"]) or not isinstance(leaf.get("digest"), str):
        return "no kernel that it was folded to"
    same_size = prod(leaf["kernel"]["shape"]) == prod(leaf["shape"])
    return None if same_size else "folded to a kernel of another size"


def _is_described(leaf: Json) -> bool:
    """Tell whether an entry holds the shape and dtype of an array of numbers."""
    if not isinstance(leaf, dict) or not is_shape(leaf.get("shape")):
        return False
    try:
        dtype = jnp.dtype(leaf["dtype"]) if isinstance(leaf.get("dtype"), str) else None
    except TypeError:
        return False
    return dtype is not None and (
        jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)
    )
