"""Kernels as matrices and back: what a contraction multiplies its rows with.

A site is described by its `shape`, `steps`, `layout` and `form`, see `Site.described`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.graph.rearrange import rearranged

__all__ = ["row_and_column_dimensions", "site_matrices", "to_kernel", "to_kernels", "to_matrices"]

Layout = Mapping[str, Any]
Described = Mapping[str, Any]

MATRIX = ("steps", "layout", "form")
"""What of a site's description says how its kernel becomes matrices."""


def row_and_column_dimensions(form: str, layout: Layout) -> tuple[list[int], list[int]]:
    """Return the kernel's dimensions that make up the rows and the columns of its matrix."""
    if form == "dense":
        return list(layout["contracted"]), list(layout["free"])
    if form == "channel":
        return [*layout["window"], layout["input"]], [layout["output"]]
    first, second = layout["window"]
    return [first, layout["input"]], [second, layout["output"]]


def to_matrices(kernel: jax.Array, form: str, layout: Layout) -> jax.Array:
    """Return the kernel as matrices `[groups, rows, columns]`.

    Args:
        kernel: as it is contracted (see `jaxcompress.graph.rearrange`), without scanned axes.
        form: "dense", "channel" or "spatial".
        layout: which dimension is what.
    """
    rows, columns = row_and_column_dimensions(form, layout)
    groups = layout.get("groups", 1)
    if form == "dense":
        shape = (1, prod(kernel.shape[i] for i in rows), -1)
        return kernel.transpose(*rows, *columns).reshape(shape)
    output = layout["output"]
    per_group = kernel.shape[output] // groups
    split_kernel = kernel.reshape(
        *kernel.shape[:output], groups, per_group, *kernel.shape[output + 1 :]
    )
    # The group axis stands before the output axis: later dimensions have moved by one.
    rows, columns = ([i + (i >= output) for i in part] for part in (rows, columns))
    moved = split_kernel.transpose(output, *rows, *columns)
    return moved.reshape(groups, prod(split_kernel.shape[i] for i in rows), -1)


def site_matrices(
    leaves: Mapping[str, Array], sites: Mapping[str, Described]
) -> dict[str, jax.Array]:
    """Return the kernels of sites as matrices `[scanned..., groups, rows, columns]` by path.

    Args:
        leaves: arrays by path.
        sites: described, by path.
    """
    needed = {path: {key: site[key] for key in MATRIX} for path, site in sites.items()}
    made = _matrices({path: leaves[path] for path in sites}, json.dumps(needed))
    return {path: made[path] for path in sites}


# One program for all sites. JAX keeps one for each description, which it can compare as text.
@functools.partial(jax.jit, static_argnames="described")
def _matrices(leaves: Mapping[str, Array], described: str) -> dict[str, jax.Array]:
    return {path: _site_matrix(leaves[path], site) for path, site in json.loads(described).items()}


def _site_matrix(leaf: Array, site: Described) -> jax.Array:
    function = functools.partial(to_matrices, form=site["form"], layout=site["layout"])
    for name, _ in site["steps"]:
        function = jax.vmap(function) if name == "slice" else function
    return function(rearranged(leaf, site["steps"]))


def to_kernel(matrix: jax.Array, site: Described, leaf: Array) -> jax.Array:
    """Turn matrices `[scanned..., groups, rows, columns]` back into a kernel like `leaf`."""
    # The way there only moves entries, so that its transpose is its inverse.
    (kernel,) = jax.linear_transpose(lambda array: _site_matrix(array, site), leaf)(
        matrix.astype(leaf.dtype)
    )
    return kernel


def to_kernels(
    matrices: Mapping[str, Array], sites: Mapping[str, Described], dtypes: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """Apply `to_kernel` to all sites by path, in one program; each kernel gets its dtype."""
    needed = {
        path: {key: sites[path][key] for key in ("shape", *MATRIX)}
        | {"dtype": jnp.dtype(dtypes[path]).name}
        for path in matrices
    }
    made = _kernels(dict(matrices), json.dumps(needed))
    return {path: made[path] for path in matrices}


@functools.partial(jax.jit, static_argnames="described")
def _kernels(matrices: Mapping[str, Array], described: str) -> dict[str, jax.Array]:
    return {
        path: to_kernel(
            matrices[path], site, jax.ShapeDtypeStruct(tuple(site["shape"]), site["dtype"])
        )
        for path, site in json.loads(described).items()
    }
