"""The record of a checkpoint: which leaves were saved, and the digest of each one's values.

It is written beside Orbax's files and read before them: what a checkpoint holds is known, and
compared with what is asked for, before any array is read. What Orbax reads must be what was saved.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = ["changed", "check", "describe", "faults", "mismatches", "stored"]

FIELDS = {"dtype", "shape", "sha256"}


def check(state: PyTree) -> None:
    """Raise unless a checkpoint can hold a state.

    Raises:
        ValueError: if a leaf is no array of numbers that all processes can write (several write
            no empty ones), or there is none, or two leaves share a name.
    """
    leaves, _ = flatten_with_paths(state)
    names = [path.replace("/", ".") for path in leaves]
    wrong = [f"{path}: {fault}" for path, leaf in leaves.items() if (fault := _fault(leaf))]
    wrong += [f"{p}: two of one name" for p in leaves if names.count(p.replace("/", ".")) > 1]
    if wrong or not leaves:
        raise ValueError(
            "the leaves of a checkpoint are arrays of numbers, held by all processes "
            "together, whose names stay apart with dots for slashes, but these are not: "
            f"{'; '.join(wrong) or 'there are none'}; leave them out, rename them, or pass "
            "parallel.replicate(state, mesh)"
        )


def describe(state: PyTree) -> dict[str, dict[str, Json]]:
    """Return `{path: {"dtype", "shape", "sha256"}}`; no digest where processes split a leaf.

    Example:
        >>> describe({"w": np.ones(2, np.int8)})["w"]["shape"]
        [2]
    """
    return {path: _described(leaf) for path, leaf in flatten_with_paths(state)[0].items()}


def _fault(leaf: Array) -> str | None:
    if not isinstance(leaf, jax.Array):
        dtype = np.asarray(leaf).dtype
        if not (jnp.issubdtype(dtype, jnp.number) or dtype.kind == "b"):
            return f"a {type(leaf).__name__}"
    elif jax.process_count() > 1 and leaf.is_fully_addressable:
        return "an array of one process"
    is_key = "key" in _dtype(leaf)
    is_empty = math.prod(np.shape(leaf)) == 0 and (is_key or jax.process_count() > 1)
    return f"of shape {np.shape(leaf)}" if is_empty else None


def stored(leaf: Array) -> Array:
    """Return what is written of a leaf: one number for none, since Orbax writes no empty arrays.

    Example:
        >>> stored(np.ones((3, 0))).shape, stored(np.ones((3, 2))).shape
        ((1,), (3, 2))
    """
    return leaf if math.prod(np.shape(leaf)) else np.zeros(1, leaf.dtype)


def _described(leaf: Array) -> dict[str, Json]:
    values = _on_host(leaf)
    digest = None if values is None else hashlib.sha256(values.tobytes()).hexdigest()
    return {"dtype": _dtype(leaf), "shape": list(np.shape(leaf)), "sha256": digest}


def _on_host(leaf: Array) -> np.ndarray | None:
    """Return the values as JAX has them; None where no process has all."""
    if not isinstance(leaf, jax.Array):
        return np.asarray(leaf).astype(_dtype(leaf))
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if not leaf.is_fully_addressable and leaf.is_fully_replicated:
        leaf = leaf.addressable_data(0)
    return np.asarray(leaf) if leaf.is_fully_addressable else None


def _dtype(leaf: Array) -> str:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return str(jax.dtypes.canonicalize_dtype(dtype, allow_extended_dtype=True))


def faults(leaves: Any) -> list[str]:
    """Name everything in which an object is no record of leaves.

    Example:
        >>> faults({"w": {"dtype": "int8", "shape": [2], "sha256": None}})
        []
        >>> faults({"w": {"dtype": "int8", "shape": [-2], "sha256": None}})
        ['w']
    """
    if not isinstance(leaves, dict) or not leaves:
        return ["leaves"]
    return sorted(path for path, leaf in leaves.items() if not _is_leaf(leaf))


def _is_leaf(leaf: Array) -> bool:
    if not isinstance(leaf, dict) or leaf.keys() != FIELDS or not isinstance(leaf["dtype"], str):
        return False
    shape, digest = leaf["shape"], leaf["sha256"]
    is_shape = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    return is_shape and (
        digest is None or (isinstance(digest, str) and bool(re.fullmatch("[0-9a-f]{64}", digest)))
    )


def mismatches(leaves: Mapping[str, Mapping[str, Array]], like: PyTree) -> list[str]:
    """Say in which leaves a state that is asked for differs from what was saved.

    Example:
        >>> mismatches({"w": {"dtype": "int8", "shape": [2]}}, {"w": np.zeros(3, np.int8)})
        ['w: int8[2] there, int8[3] asked for']
    """
    asked = {
        path: f"{_dtype(leaf)}{list(np.shape(leaf))}"
        for path, leaf in flatten_with_paths(like)[0].items()
    }
    there = {path: f"{leaf['dtype']}{leaf['shape']}" for path, leaf in leaves.items()}
    return [
        f"{path}: {there.get(path, 'nothing')} there, {asked.get(path, 'nothing')} asked for"
        for path in sorted({*there, *asked})
        if there.get(path) != asked.get(path)
    ]


def changed(leaves: Mapping[str, Mapping[str, Array]], state: PyTree) -> list[str]:
    """Return the paths of the leaves of a state whose values are not those that were saved.

    Example:
        >>> state = {"w": jnp.ones(2)}
        >>> changed(describe(state), state), changed(describe(state), {"w": jnp.zeros(2)})
        ([], ['w'])
    """
    there = {path: _described(leaf) for path, leaf in flatten_with_paths(state)[0].items()}
    return sorted(
        path
        for path, leaf in there.items()
        if None not in (leaf["sha256"], leaves[path]["sha256"]) and leaf != leaves[path]
    )
