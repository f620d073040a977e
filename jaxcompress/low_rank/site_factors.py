"""The kernels of sites, named by path, as matrices and back: `factors` beside the tree's plumbing.

A site is described by its `shape`, `steps`, `layout` and `form`, see `Site.described`.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.compression.precision import like, widened
from jaxcompress.finite import non_finite, require_finite
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.low_rank.factors import Decomposition, after, decompose, split, to_factors

__all__ = [
    "FACTORS",
    "decompositions",
    "halves_of",
    "leaves_of",
    "split_leaves",
    "to_halves",
    "to_leaves",
]

FACTORS = ("first", "second")
"""The names of the two leaves that stand for a kernel."""

Described = Mapping[str, Any]
REMEDY = "look for NaN in the batches or the variables that they are of"


def decompositions(
    leaves: Mapping[str, Array],
    sites: Mapping[str, Array],
    roots: Mapping[str, Array] | None = None,
    output_roots: Mapping[str, Array] | None = None,
) -> dict[str, Decomposition]:
    """Decompose the kernels of all sites, those of one shape in one batched SVD.

    Args:
        leaves: arrays by path.
        sites: described, by path.
        roots: see `factorize`.
        output_roots: see `factorize`.

    Returns:
        Decompositions `[scanned..., groups, ...]` by path, in float32 at least.

    Raises:
        ValueError: if kernels or roots hold NaN or infinity, and are not traced; all are named.
    """
    roots, output_roots = roots or {}, output_roots or {}
    matrices = {path: widened(matrix) for path, matrix in site_matrices(leaves, sites).items()}
    _check_finite(matrices)
    require_finite("roots", {p: roots[p] for p in sites if p in roots}, REMEDY)
    require_finite("output_roots", {p: output_roots[p] for p in sites if p in output_roots}, REMEDY)
    shapes = defaultdict(list)
    for path, matrix in matrices.items():
        shapes[matrix.shape, matrix.dtype, path in roots, path in output_roots].append(path)
    result: dict[str, Decomposition] = {}
    parts: list[Decomposition] = []
    for paths in shapes.values():
        alike, inputs, outputs = (
            [array[p] for p in paths if p in array] for array in (matrices, roots, output_roots)
        )
        parts = _decompose_alone(alike, inputs, outputs, parts[-1].right if parts else None)
        result.update(zip(paths, parts, strict=True))
    return result


def _check_finite(matrices: Mapping[str, jax.Array]) -> None:
    wrong = non_finite(dict(matrices))
    if wrong:
        raise ValueError(
            f"a kernel must be finite to be factorized, but {', '.join(wrong)} hold NaN or "
            "infinity; train or load them again, or leave these sites alone (rank None)"
        )


def _decompose_alone(
    matrices: Sequence[Array],
    roots: Sequence[Array],
    output_roots: Sequence[Array],
    earlier: Array | None,
) -> list[Decomposition]:
    """Run one batched SVD as a program of its own; inside another, after what is `earlier`.

    See `after`: side by side, decompositions may wait for each other.
    """
    if isinstance(earlier, jax.core.Tracer):
        matrices = [after(matrices[0], earlier), *matrices[1:]]
    parts = _decompose_stacked(matrices, roots, output_roots)
    is_traced = any(isinstance(part, jax.core.Tracer) for part in jax.tree.leaves(parts))
    return parts if is_traced else jax.block_until_ready(parts)


@jax.jit
def _decompose_stacked(
    matrices: Sequence[Array], roots: Sequence[Array], output_roots: Sequence[Array]
) -> list[Decomposition]:
    root, output_root = (jnp.stack(given) if given else None for given in (roots, output_roots))
    parts = decompose(jnp.stack(matrices), root, output_root)
    return [Decomposition(*(part[n] for part in parts)) for n in range(len(matrices))]


def split_leaves(
    parts: Mapping[str, Decomposition], leaves: Mapping[str, Array], sites: Mapping[str, Described]
) -> dict[str, dict[str, Array]]:
    """Cut decompositions to the `rank` of their sites, and shape the halves as `to_leaves` does."""
    made = _split(dict(parts), {path: leaves[path] for path in sites}, json.dumps(dict(sites)))
    return {path: made[path] for path in sites}


@functools.partial(jax.jit, static_argnames="described")
def _split(
    parts: Mapping[str, Decomposition], leaves: Mapping[str, Array], described: str
) -> dict[str, dict[str, Array]]:
    return {
        path: to_leaves(*split(parts[path], site["rank"]), site, leaves[path])
        for path, site in json.loads(described).items()
    }


def to_leaves(
    left: jax.Array, right: jax.Array, site: Described, leaf: Array = None
) -> dict[str, Array]:
    """Shape two halves as the kernels of the two operations; scanned axes stay in front.

    Args:
        left: `[scanned..., groups, rows, rank]`.
        right: `[scanned..., groups, rank, columns]`.
        site: described.
        leaf: the kernel whose dtype they take; they keep their own without one.
    """
    if leaf is not None:
        left, right = like(left, leaf), like(right, leaf)
    turned = jax.eval_shape(
        lambda leaf: rearranged(leaf, site["steps"]),
        jax.ShapeDtypeStruct(tuple(site["shape"]), left.dtype),
    )
    scanned = sum(name == "slice" for name, _ in site["steps"])
    function = functools.partial(
        to_factors, kernel=turned.shape[scanned:], form=site["form"], layout=site["layout"]
    )
    for _ in range(scanned):
        function = jax.vmap(function)
    return dict(zip(FACTORS, function(left, right), strict=True))


def to_halves(factors: Mapping[str, Array], site: Described) -> tuple[jax.Array, jax.Array]:
    """Undo `to_leaves`."""
    dtype = factors[FACTORS[0]].dtype
    leaf = jax.ShapeDtypeStruct(tuple(site["shape"]), dtype)
    whole = jax.eval_shape(lambda leaf: site_matrices({"": leaf}, {"": site})[""], leaf).shape
    rank = site["rank"]
    halves = ((*whole[:-1], rank), (*whole[:-2], rank, whole[-1]))
    avals = [jax.ShapeDtypeStruct(shape, dtype) for shape in halves]
    left, right = jax.linear_transpose(lambda a, b: to_leaves(a, b, site), *avals)(dict(factors))
    return left, right


def halves_of(
    factors: Mapping[str, Mapping[str, Array]], sites: Mapping[str, Described]
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Undo `to_leaves` for all sites by path, in one program."""
    return _halves({path: factors[path] for path in sites}, json.dumps(dict(sites)))


@functools.partial(jax.jit, static_argnames="described")
def _halves(
    factors: Mapping[str, Mapping[str, Array]], described: str
) -> dict[str, tuple[jax.Array, jax.Array]]:
    return {path: to_halves(factors[path], site) for path, site in json.loads(described).items()}


def leaves_of(
    halves: Mapping[str, Sequence[Array]], sites: Mapping[str, Described]
) -> dict[str, dict[str, Array]]:
    """Apply `to_leaves` to all sites by path, in one program."""
    return _leaves({path: halves[path] for path in sites}, json.dumps(dict(sites)))


@functools.partial(jax.jit, static_argnames="described")
def _leaves(halves: Mapping[str, Sequence[Array]], described: str) -> dict[str, dict[str, Array]]:
    sites = json.loads(described)
    return {path: to_leaves(halves[path][0], halves[path][1], sites[path]) for path in sites}
