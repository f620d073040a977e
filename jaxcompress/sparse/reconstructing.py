"""Masks and weights that give back what a kernel gave: second-order pruning, row by row."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import each, integer, real, require
from jaxcompress.graph import Graph
from jaxcompress.sparse.calibration import calibrated
from jaxcompress.sparse.patterns import NofM, keep_largest

__all__ = ["reconstruct"]


def reconstruct(
    graph: Graph,
    variables: PyTree,
    covariances: Mapping[str, Array],
    sparsity: float | Mapping[str, float],
    *,
    pattern: NofM | None = None,
    ridge: float = 0.01,
    block: int = 128,
) -> tuple[dict[str, jax.Array], PyTree]:
    """Remove weights and move the others so that each kernel's outputs change least.

    With C = E[x x^T] and C^-1 = U^T U, weights are decided by blocks of rows in order: those of
    least w_ij^2 / U_ii^2 go, and each row's error w_ij / U_ii, times its row of U, is taken off the
    rows that follow (Frantar & Alistarh 2023, "SparseGPT", algorithm 1, after the optimal brain
    surgeon). Every block loses the same share, and so does every group of a convolution and step
    of a scan. Layers are rebuilt apart from each other, from the covariances of the dense network;
    nothing else of the variables changes.

    Args:
        graph: of a function of these variables.
        variables: what is pruned.
        covariances: see `activation_masks`.
        sparsity: fraction to remove, in [0, 1), of all kernels alike or by path; not read where
            there is a pattern.
        pattern: N of M along the inputs, chosen anew every M rows.
        ridge: share of the mean square that is added to every input's.
        block: rows that are decided together.

    Returns:
        `(masks, variables)`: for `jaxcompress.sparsify`, and the variables with the kernels
        rebuilt, zeros where their mask is 0.

    Raises:
        ValueError: if a path is no site, a covariance does not fit, the pattern does not divide
            the rows, or something is not finite; all offenders are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables = {"a": jnp.array([[1.0], [2.0]])}
        >>> graph = trace(apply, variables, jnp.ones((4, 2)))
        >>> covariances = {"a": jnp.ones((1, 2, 2))}  # both inputs are always the same
        >>> masks, rebuilt = reconstruct(graph, variables, covariances, 0.5, ridge=1e-3)
        >>> masks["a"].tolist(), rebuilt["a"].round(1).tolist()
        ([[False], [True]], [[0.0], [3.0]])
    """
    share = each(sparsity, functools.partial(real, least=0, below=1))
    require(sparsity=share, ridge=real(ridge, above=0), block=integer(block))
    size = block if pattern is None else pattern.m
    choice = functools.partial(_rebuilt, pattern=pattern, ridge=ridge, block=size)
    return calibrated(graph, variables, covariances, sparsity, pattern, choice)


def _rebuilt(
    matrices: jax.Array,
    covariances: jax.Array,
    sparsity: float,
    pattern: NofM | None,
    ridge: float,
    block: int,
) -> tuple[jax.Array, jax.Array]:
    _, rows, columns = matrices.shape
    counts = jnp.asarray(_counts(rows, columns, block, sparsity))
    return _sweeps(matrices, covariances, counts, ridge, pattern, block)


@functools.partial(jax.jit, static_argnames=("pattern", "block"))
def _sweeps(
    matrices: jax.Array,
    covariances: jax.Array,
    counts: jax.Array,
    ridge: float,
    pattern: NofM | None,
    block: int,
) -> tuple[jax.Array, jax.Array]:
    """Sweep over the rows of each matrix, one matrix after the other."""

    def sweep(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return _sweep(pair[0], _upper_root_of_inverse(pair[1], ridge), counts, pattern, block)

    masks, rebuilt = jax.lax.map(sweep, (matrices, covariances))
    return masks, rebuilt


def _sweep(
    matrix: jax.Array, root: jax.Array, counts: jax.Array, pattern: NofM | None, block: int
) -> tuple[jax.Array, jax.Array]:
    """Sweep over the rows of one matrix, padded to whole blocks."""
    rows = len(matrix)
    padding = -rows % block
    upper = jnp.pad(root, ((0, padding), (0, padding)))
    scale = jnp.pad(jnp.diagonal(root), (0, padding), constant_values=1.0)[:, None]

    def decide(
        number: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        weights, mask = state
        start = number * block
        here = jax.lax.dynamic_slice_in_dim(weights / scale, start, block) ** 2
        is_row = start + jnp.arange(block) < rows
        scores = jnp.where(is_row[:, None], here, -jnp.inf)
        chosen = _chosen(scores, counts[number], pattern)
        mask = jax.lax.dynamic_update_slice_in_dim(mask, chosen, start, 0)

        def row(i: jax.Array, weights: jax.Array) -> jax.Array:
            error = jnp.where(mask[i], 0, weights[i]) / scale[i]
            return weights - upper[i][:, None] * error

        return jax.lax.fori_loop(start, start + block, row, weights), mask

    padded = jnp.pad(matrix, ((0, padding), (0, 0)))
    state = (padded, jnp.zeros(padded.shape, bool))
    weights, mask = jax.lax.fori_loop(0, len(padded) // block, decide, state)
    return mask[:rows], jnp.where(mask, weights, 0)[:rows]


def _upper_root_of_inverse(covariance: jax.Array, ridge: float) -> jax.Array:
    """Return the upper triangular U with U^T U = (C + ridge mean(diag C) I)^-1."""
    mean = jnp.trace(covariance) / len(covariance)
    # A site that only ever sees zeros keeps its largest weights.
    added = jnp.where(mean > 0, ridge * mean, 1.0)
    eye = jnp.eye(len(covariance), dtype=covariance.dtype)
    root = jnp.linalg.cholesky(covariance + added * eye)
    inverse = jax.scipy.linalg.cho_solve((root, True), eye)
    return jnp.linalg.cholesky(inverse).T


def _counts(rows: int, columns: int, block: int, sparsity: float) -> np.ndarray:
    """Return how many weights each block keeps; together exactly what the sparsity leaves."""
    ends = np.minimum(np.arange(0, rows + block, block), rows) * columns
    return np.diff(ends - np.rint(sparsity * ends).astype(np.int64)).astype(np.int32)


def _chosen(scores: jax.Array, count: jax.Array, pattern: NofM | None) -> jax.Array:
    if pattern is None:
        return keep_largest(scores, count)
    return jax.vmap(lambda column: keep_largest(column, pattern.n), 1, 1)(scores)
