"""What scores from data share: kernels as matrices beside the covariances of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.compression.precision import widened
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.input_rows import matrices_beside
from jaxcompress.graph.matrices import to_kernels
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse.masks import masked
from jaxcompress.sparse.patterns import NofM

__all__ = ["calibrated"]

Choice = Callable[[jax.Array, jax.Array, float], tuple[jax.Array, jax.Array]]
"""`(matrices [n, rows, columns], covariances [n, rows, rows], sparsity) -> (masks, matrices)`."""


def calibrated(
    graph: Graph,
    variables: PyTree,
    covariances: Mapping[str, Array],
    sparsity: float | Mapping[str, float],
    pattern: NofM | None,
    choice: Choice,
) -> tuple[dict[str, jax.Array], PyTree]:
    """Choose the masks of kernels, each by what its rows are multiplied with.

    Args:
        graph: that has the sites.
        variables: what is pruned.
        covariances: `E[x x^T]` by path of the kernel, `[scanned..., groups, rows, rows]`.
        sparsity: fraction to remove, in [0, 1), of all kernels alike or by path.
        pattern: N of M along the rows; None for single weights.
        choice: of the matrices of one kernel: those of the steps of a scan, of the groups.

    Returns:
        `(masks, variables)`: bool of each kernel's shape by path, and the variables with what
        `choice` made of these kernels.

    Raises:
        ValueError: if a path is no site, a covariance does not fit, the pattern does not divide
            the rows, or something is not finite; all offenders are named.
    """
    by_path = sparsity if isinstance(sparsity, Mapping) else dict.fromkeys(covariances, sparsity)
    missing = sorted(set(covariances) - set(by_path))
    if missing:
        raise ValueError(
            f"every kernel with a covariance needs a sparsity, but {missing} have none"
        )
    leaves, treedef = flatten_with_paths(variables)
    multiple_of = 1 if pattern is None else pattern.m
    sites, matrices = matrices_beside(graph, leaves, covariances, multiple_of)
    require_finite("variables", {path: leaves[path] for path in sites}, "train or load them again")
    require_finite("covariances", dict(covariances), "look for NaN in the batches")
    chosen, moved = {}, {}
    for path in sites:
        shape = matrices[path].shape
        flat = widened(matrices[path]).reshape(-1, *shape[-2:])
        squares = jnp.asarray(covariances[path], jnp.float32).reshape(-1, shape[-2], shape[-2])
        mask, matrix = choice(flat, squares, by_path[path])
        chosen[path], moved[path] = mask.reshape(shape), matrix.reshape(shape)
    kept = to_kernels(chosen, sites, dict.fromkeys(sites, jnp.float32))
    masks = {path: mask > 0 for path, mask in kept.items()}
    dtypes = {path: jnp.result_type(leaves[path]) for path in sites}
    made = masked(to_kernels(moved, sites, dtypes), masks)
    return masks, jax.tree.unflatten(treedef, list({**leaves, **made}.values()))
