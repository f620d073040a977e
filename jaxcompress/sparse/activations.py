"""Masks by weights times the size of what they are multiplied with, output by output."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import each, real, require
from jaxcompress.graph import Graph
from jaxcompress.sparse.calibration import calibrated
from jaxcompress.sparse.patterns import NofM, keep_largest, rounded

__all__ = ["activation_masks"]


def activation_masks(
    graph: Graph,
    variables: PyTree,
    covariances: Mapping[str, Array],
    sparsity: float | Mapping[str, float],
    *,
    pattern: NofM | None = None,
) -> dict[str, jax.Array]:
    """Keep, for each output, the weights of largest |w_ij| * sqrt(E[x_i^2]).

    Weights compete within their output only, so that every output loses the same share (Sun et al.
    2024, "A simple and effective pruning approach for large language models", Wanda, equation 1).
    The rows of a convolution are the inputs at each place of its window. No gradient, no labels.

    Args:
        graph: of a function of these variables.
        variables: what is pruned.
        covariances: `E[x x^T]` by path of the kernels to prune, of which the diagonals are read:
            `jc.low_rank.input_covariances(graph, apply, variables, batches, forms)`, the form of
            convolutions being "channel", of dots "dense".
        sparsity: fraction to remove, in [0, 1), of all kernels alike or by path; not read where
            there is a pattern.
        pattern: N of M along the inputs instead.

    Returns:
        `{path: bool[shape]}` for `jaxcompress.sparsify`.

    Raises:
        ValueError: if a path is no site, a covariance does not fit, the pattern does not divide
            the rows, or something is not finite; all offenders are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables = {"a": jnp.array([[3.0, 1.0], [2.0, 2.0]])}
        >>> graph = trace(apply, variables, jnp.ones((4, 2)))
        >>> covariances = {"a": jnp.diag(jnp.array([1.0, 9.0]))[None]}
        >>> activation_masks(graph, variables, covariances, 0.5)["a"].tolist()
        [[False, False], [True, True]]
    """
    require(sparsity=each(sparsity, functools.partial(real, least=0, below=1)))
    choice = functools.partial(_largest, pattern=pattern)
    return calibrated(graph, variables, covariances, sparsity, pattern, choice)[0]


def _largest(
    matrices: jax.Array, covariances: jax.Array, sparsity: float, pattern: NofM | None
) -> tuple[jax.Array, jax.Array]:
    rows = matrices.shape[1]
    size, kept = (rows, rounded(rows, sparsity)) if pattern is None else (pattern.m, pattern.n)
    masks = _masks(matrices, covariances, kept, size)
    return masks, jnp.where(masks, matrices, 0)


@functools.partial(jax.jit, static_argnames="size")
def _masks(matrices: jax.Array, covariances: jax.Array, kept: int, size: int) -> jax.Array:
    """Keep, of every `size` rows of each column, the `kept` of largest score."""
    sizes = jnp.sqrt(jnp.diagonal(covariances, axis1=-2, axis2=-1))
    columns = (jnp.abs(matrices) * sizes[..., None]).mT
    chosen = jax.vmap(lambda scores: keep_largest(scores, kept))(columns.reshape(-1, size))
    return chosen.reshape(columns.shape).mT
