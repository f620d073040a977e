"""`load`: a saved network as a function and its variables, in a fresh process the same, bitwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.artifact.fit import fitted
from jaxcompress.artifact.folder import open_artifact
from jaxcompress.artifact.leaves import read_leaves
from jaxcompress.artifact.network import named_network
from jaxcompress.artifact.program import program_function, stored_leaves
from jaxcompress.artifact.schema import PROGRAM_NAME
from jaxcompress.artifact.spec import from_spec
from jaxcompress.artifact.structure import Structure
from jaxcompress.layouts import inherited
from jaxcompress.models import evaluation_function

__all__ = ["load"]


def load(
    path: str | os.PathLike[str], apply: Function | None = None, like: PyTree = None
) -> tuple[Callable[..., Any], Any]:
    """Read a network that `save` wrote.

    Everything that can be checked without inputs is checked before the numbers are read. That
    `apply` is the function that was compressed shows only at the first call; with `like`, another
    network's leaves are found here.

    Args:
        path: the folder.
        apply: the original function of (variables, *inputs), evaluation, training or loss. By
            default the program in the artifact, if any, which is code: take it only from whom you
            trust; or else the evaluation function of the network that the artifact names.
        like: variables of the original network (its structure and shapes, arrays or
            `jax.ShapeDtypeStruct`), needed where they are not nested dicts (NNX, Equinox, lists),
            unless the program is taken. Where its leaves lie on a mesh, what has become of them is
            put there, split over the same axes of the mesh (`jaxcompress.layouts`).

    Returns:
        `(function, variables)`: `apply` on the compressed variables, and these, as nested dicts by
        path or structured like `like`.

    Raises:
        FileNotFoundError: if there is no artifact, or half of one.
        ValueError: if it is truncated, was changed, is of a newer format, or does not fit `like`.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxcompress.artifact import save
        >>> from jaxcompress.compression import chain
        >>> folder = tempfile.mkdtemp()
        >>> save(folder, chain(), {"layer": [jnp.ones(2)]})
        >>> apply = lambda variables, x: variables["layer"][0] * x
        >>> like = {"layer": [jax.ShapeDtypeStruct((2,), jnp.float32)]}
        >>> function, variables = load(folder, apply, like)
        >>> function(variables, 3.0).tolist()
        [3.0, 3.0]
    """
    folder = Path(path)
    with open_artifact(folder) as (structure, data, _):
        compression = from_spec(structure.spec)
        if apply is None and structure.program is None:
            apply = _shipped(structure, folder)
        if like is not None:
            paths, treedef = fitted(structure, compression, like)
        elif apply is not None:
            # A program takes leaves by their paths, whatever tree they were.
            _require_nested(structure, folder)
        place = folder / structure.file.name
        shapes = {leaf_path: leaf.shape for leaf_path, leaf in structure.leaves.items()}
        layouts = inherited(like, shapes)
        stored = read_leaves(data, place, structure.file, stored_leaves(structure), layouts)
        leaves = {leaf_path: stored[leaf_path] for leaf_path in structure.leaves}
        if apply is None:
            function = program_function(stored[PROGRAM_NAME], structure, folder)
        else:
            function = compression.function(apply)
        if like is None:
            return function, _nested(leaves, structure.empty)
        return function, jax.tree.unflatten(treedef, [leaves[leaf_path] for leaf_path in paths])


def _shipped(structure: Structure, folder: Path) -> Function:
    if structure.network is None:
        raise ValueError(
            f"loading needs the function that was compressed, but {folder} names no shipped "
            "network and holds no program; pass `apply`, or save with network=(name, config) or "
            "program="
        )
    name, config = structure.network["name"], structure.network["config"]
    try:
        return evaluation_function(named_network(name, config, structure.original_shapes))
    except ValueError as error:
        raise ValueError(f"{folder} names no network that can be built: {error}") from error


def _require_nested(structure: Structure, folder: Path) -> None:
    if not structure.nested:
        raise ValueError(
            f"paths alone rebuild nested dicts with string keys only, but the variables in {folder}"
            f" were another tree, with leaves {list(structure.leaves)[:8]} and so on; pass "
            "like=variables of the original network (shapes suffice)"
        )


def _nested(leaves: Mapping[str, Array], empty: Collection[str]) -> PyTree:
    """Rebuild nested dicts from paths; a single leaf without a path is the tree itself."""
    if list(leaves) == [""]:
        return leaves[""]
    tree: dict[str, Array] = {}
    for path, leaf in {**leaves, **{path: {} for path in empty if path}}.items():
        *parents, last = path.split("/")
        inner = tree
        for key in parents:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ValueError(
                    f"paths alone rebuild nested dicts, but {path!r} is a leaf below another leaf; "
                    "pass like=variables of the original network (shapes suffice)"
                )
        inner[last] = leaf
    return tree
