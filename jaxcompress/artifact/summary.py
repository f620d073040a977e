"""What an artifact is, without loading its numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Json
from jaxcompress.artifact.folder import open_artifact
from jaxcompress.artifact.structure import Structure
from jaxcompress.graph import default_trainable

__all__ = ["inspect", "num_bytes"]


def inspect(path: str | os.PathLike[str]) -> dict[str, Json]:
    """Summarise an artifact without loading its numbers.

    Returns:
        `kinds`: of the compressions, in order; `params` and `original_params`: trainable values
        (Linen's `params`, elsewhere all inexact leaves) after and before, the latter None where
        the compression does not tell; `nonzero`: how many of `params` are not zero; `bytes`: on
        disk; `dense_bytes`: 4 per value of all original leaves, what they take as float32, and
        `ratio`: `dense_bytes / bytes`, both None where `original_params` is; `leaves`: how many;
        `spec` of the compression, for `jaxcompress.from_spec`; `network`, `metadata` and
        the `library` version, as saved; `program`: size in bytes and platforms, or None.

    Raises:
        FileNotFoundError: if there is no artifact.
        ValueError: if its structure is damaged or of a newer format.

    Example:
        >>> import tempfile
        >>> from jaxcompress.artifact import save
        >>> from jaxcompress.compression import chain
        >>> folder = tempfile.mkdtemp()
        >>> save(folder, chain(), {"a": jnp.ones((2, 3))})
        >>> summary = inspect(folder)
        >>> summary["kinds"], summary["params"], summary["nonzero"], summary["dense_bytes"]
        ([], 6, 6, 24)
    """
    with open_artifact(Path(path)) as opened:
        structure, _, size = opened
    now = {name: leaf.shape for name, leaf in structure.leaves.items()}
    before = structure.original_shapes
    dense = None if before is None else 4 * sum(math.prod(shape) for shape in before.values())
    return {
        "kinds": _kinds(structure.spec),
        "params": _params(structure, now),
        "original_params": None if before is None else _params(structure, before),
        "nonzero": _nonzero(structure),
        "bytes": size,
        "dense_bytes": dense,
        "ratio": None if dense is None else dense / size,
        "leaves": len(structure.leaves),
        "spec": structure.spec,
        "network": structure.network,
        "metadata": structure.metadata,
        "library": structure.library,
        "program": structure.program,
    }


def num_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes on disk of an artifact: its data and its structure.

    Raises:
        FileNotFoundError: if there is no artifact, or half of one.

    Example:
        >>> import tempfile
        >>> from jaxcompress.artifact import save
        >>> from jaxcompress.compression import chain
        >>> folder = tempfile.mkdtemp()
        >>> save(folder, chain(), {"a": jnp.ones(1000)})
        >>> 4000 < num_bytes(folder) < 6000
        True
    """
    with open_artifact(Path(path)) as opened:
        return opened.num_bytes


def _kinds(spec: Mapping[str, Json]) -> list[str]:
    if spec["kind"] != "chain":
        return [spec["kind"]]
    return [kind for step in spec["steps"] for kind in _kinds(step)]


def _nonzero(structure: Structure) -> int | None:
    """Count the trainable values that are not zero; None for an artifact that did not count."""
    trainable = default_trainable({path: leaf.shape for path, leaf in structure.leaves.items()})
    counts = [
        leaf.nonzero
        for path, leaf in structure.leaves.items()
        if leaf.key_impl is None
        and trainable(path, jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(leaf.dtype)))
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _params(structure: Structure, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count trainable values; a leaf that factors replaced, and that is not stored, was a float."""
    trainable = default_trainable(shapes)
    keys = {path for path, leaf in structure.leaves.items() if leaf.key_impl is not None}
    dtypes = {path: leaf.dtype for path, leaf in structure.leaves.items()}
    leaves = {
        path: jax.ShapeDtypeStruct(shape, jnp.dtype(dtypes.get(path, "float32")))
        for path, shape in shapes.items()
        if path not in keys
    }
    return sum(math.prod(leaf.shape) for path, leaf in leaves.items() if trainable(path, leaf))
