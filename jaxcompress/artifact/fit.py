"""Whether variables belong to a compression: before it, by original shapes, and after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.artifact.leaves import structs
from jaxcompress.artifact.structure import Leaf, Structure
from jaxcompress.compression.record import Compression
from jaxcompress.low_rank.site_factors import FACTORS
from jaxcompress.paths import flatten_with_paths
from jaxcompress.quantization.quantizing import CODES
from jaxcompress.sparse.sparsifying import check_sparse

__all__ = [
    "PARTS",
    "Shapes",
    "check_result",
    "check_scales",
    "check_zeros",
    "code_paths",
    "fitted",
    "original_shapes",
]

Shapes = Mapping[str, tuple[int, ...]]

PARTS = {"factorize": FACTORS, "quantize": CODES}
"""The names of the leaves that a kernel has become."""


def original_shapes(spec: Mapping[str, Json], shapes: Shapes) -> Shapes | None:
    """Return the leaf shapes before a compression from those after it.

    None where a spec's kind does not tell them.

    Example:
        >>> spec = {"kind": "shrink", "leaves": {"a": {"shape": [4, 3], "keep": {"0": [1]}}}}
        >>> original_shapes(spec, {"a": (1, 3), "b": (2,)})
        {'a': (4, 3), 'b': (2,)}
    """
    if spec["kind"] in ("shrink", "fold", "rotate"):
        touched = {path: tuple(leaf["shape"]) for path, leaf in spec["leaves"].items()}
        return {**shapes, **touched}
    if spec["kind"] == "sparsify":
        return shapes
    if spec["kind"] in PARTS:
        sites = {path: tuple(site["shape"]) for path, site in spec["sites"].items()}
        parts = {f"{path}/{name}" for path in sites for name in PARTS[spec["kind"]]}
        return {**{path: shape for path, shape in shapes.items() if path not in parts}, **sites}
    if spec["kind"] != "chain":
        return None
    before: Shapes | None = shapes
    for step in reversed(spec["steps"]):
        before = None if before is None else original_shapes(step, before)
    return before


def check_result(
    compression: Compression, leaves: Mapping[str, Leaf], original: Shapes | None
) -> None:
    """Raise unless the leaves are what the compression makes of variables of `original` shapes.

    Raises:
        ValueError: if they are not; nothing is checked where `original` is None.
    """
    if original is None:
        return
    before = {
        path: jax.ShapeDtypeStruct(shape, _dtype(leaves[path]) if path in leaves else jnp.float32)
        for path, shape in original.items()
    }
    made, _ = flatten_with_paths(compression.variables(before))
    after = {path: leaf.shape for path, leaf in made.items()}
    problems = _mismatches(after, {path: leaf.shape for path, leaf in leaves.items()})
    if problems:
        raise ValueError(
            f"an artifact holds the compressed variables, but {'; '.join(problems)}; save what "
            "compression.variables(variables) returns"
        )


def check_zeros(spec: Mapping[str, Json], leaves: Mapping[str, Array]) -> None:
    """Raise unless the leaves are as sparse as the last compressions, if they sparsify, made them.

    Raises:
        ValueError: if a leaf has more non-zero values than its mask.
    """
    for step in reversed(spec["steps"] if spec["kind"] == "chain" else [spec]):
        if step["kind"] != "sparsify":
            return
        check_sparse(step, leaves)


def code_paths(spec: Mapping[str, Json]) -> set[str]:
    """Return the paths of the codes and scales that kernels have become.

    Example:
        >>> sorted(code_paths({"kind": "quantize", "sites": {"a": {}}}))
        ['a/codes', 'a/scales']
    """
    steps = spec["steps"] if spec["kind"] == "chain" else [spec]
    sites = [path for step in steps if step["kind"] == "quantize" for path in step["sites"]]
    return {f"{path}/{name}" for path in sites for name in CODES}


def check_scales(spec: Mapping[str, Json], leaves: Mapping[str, Array]) -> None:
    """Raise unless the scales of quantized kernels are finite and above 0.

    Raises:
        ValueError: naming those that are not.
    """
    scales = {path: leaves[path] for path in sorted(code_paths(spec)) if path.endswith("/scales")}
    known = {path: np.asarray(array) for path, array in scales.items()}
    wrong = [path for path, a in known.items() if not (np.isfinite(a) & (a > 0)).all()]
    if wrong:
        raise ValueError(
            f"scales of codes are finite and above 0, but {wrong} are not; save what "
            "compression.variables(variables) returns"
        )


def fitted(structure: Structure, compression: Compression, like: PyTree) -> tuple[list[str], Any]:
    """Return the paths, in tree order, and the treedef of the compressed form of `like`.

    Args:
        structure: of the artifact.
        compression: made from its spec.
        like: variables of the original network, arrays or `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: if `like` is another network's; all leaves that differ are named.
    """
    before = structs(like)
    if structure.original_shapes is not None:
        shapes = {path: leaf.shape for path, leaf in flatten_with_paths(before)[0].items()}
        _require(_mismatches(structure.original_shapes, shapes))
    small, treedef = flatten_with_paths(compression.variables(before))
    stored = {path: (leaf.shape, leaf.dtype) for path, leaf in structure.leaves.items()}
    _require(_mismatches(stored, {p: (leaf.shape, str(leaf.dtype)) for p, leaf in small.items()}))
    return list(small), treedef


def _require(problems: list[str]) -> None:
    if problems:
        raise ValueError(
            "`like` must be the variables, before compression, of the network that was saved, but "
            f"it is another network's: {'; '.join(problems)}; build the network with the "
            "configuration that it was saved with"
        )


def _mismatches(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> list[str]:
    missing = [
        f"{path}: missing, expected {e}" for path, e in expected.items() if path not in actual
    ]
    unexpected = [f"{path}: unexpected, {f}" for path, f in actual.items() if path not in expected]
    misshapen = [
        f"{path}: {actual[path]}, expected {e}"
        for path, e in expected.items()
        if path in actual and actual[path] != e
    ]
    return missing + unexpected + misshapen


def _dtype(leaf: Leaf) -> Any:
    """Return the dtype; of keys that of their key data, which does as well for shapes."""
    return jnp.dtype("uint32" if leaf.key_impl else leaf.dtype)
