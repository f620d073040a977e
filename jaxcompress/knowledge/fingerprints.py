"""Fingerprints: one short string that tells arrays, or settings, apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = ["fingerprint", "fingerprint_json"]

PART = 1 << 26


def fingerprint(tree: PyTree) -> str:
    """Hash a pytree of arrays: SHA-256 over paths, dtypes, shapes and bytes, in order of paths.

    Example:
        >>> fingerprint({"w": np.zeros(2)})[:8]
        '465c0cc0'
        >>> fingerprint({"w": np.zeros(2)}) == fingerprint({"w": np.zeros((2, 1))})
        False
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten_with_paths(tree)[0].items()):
        array = _array(leaf)
        digest.update(f"{path}\0{array.dtype.name}\0{array.shape}\0".encode())
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, len(content), PART):
            digest.update(content[start : start + PART].tobytes())
    return digest.hexdigest()


def fingerprint_json(value: Any) -> str:
    """Hash what JSON can hold, whatever the order of its keys.

    Example:
        >>> fingerprint_json({"a": 1, "b": 2}) == fingerprint_json({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _array(leaf: Array) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)
