"""The arithmetic of low-rank kernels, on arrays alone: matrices -> two factors.

A kernel is one matrix per group (`graph.matrices`); the matrix is split
into U sqrt(S) and sqrt(S) V^T; each factor becomes the kernel of one of the two operations. For the
`spatial` form the matrix has rows (first window axis, input) and columns (second window axis,
output), so that the factors are D x 1 and 1 x D kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcompress.graph.matrices import row_and_column_dimensions

__all__ = ["Decomposition", "after", "decompose", "split", "to_factors"]

Layout = Mapping[str, Any]


class Decomposition(NamedTuple):
    """Singular value decompositions of one site's matrices.

    Attributes:
        left: `[..., groups, rows, full]`.
        values: `[..., groups, full]`, falling.
        right: `[..., groups, full, columns]`.
    """

    left: jax.Array
    values: jax.Array
    right: jax.Array


def decompose(
    matrices: jax.Array, root: jax.Array | None = None, output_root: jax.Array | None = None
) -> Decomposition:
    """Decompose matrices M, or R^T M S where rows and columns are weighted.

    With C = E[x x^T] = R R^T the covariance of what the rows are multiplied with and G = S S^T that
    of what the columns' errors are multiplied with, the rank-r truncation of R^T M S minimises
    tr(D^T C D G), D = M - M_r; its factors are R^-T U and V^T S^-1.

    Args:
        matrices: `[..., rows, columns]`.
        root: R, `[..., rows, rows]`, lower triangular; None where rows count alike.
        output_root: S, `[..., columns, columns]`, lower triangular; None where columns count alike.
    """
    weighted = matrices if root is None else root.mT @ matrices
    weighted = weighted if output_root is None else weighted @ output_root
    left, values, right = jnp.linalg.svd(weighted, full_matrices=False)
    if root is not None:
        left = jax.scipy.linalg.solve_triangular(root, left, lower=True, trans="T")
    if output_root is not None:
        right = after(right, left)
        right = jax.scipy.linalg.solve_triangular(output_root, right.mT, lower=True, trans="T").mT
    return Decomposition(left, values, right)


def after(array: jax.Array, earlier: jax.Array) -> jax.Array:
    """Return an array unchanged, but not before another one is computed.

    XLA's CPU backend runs independent LAPACK calls side by side. Each waits for threads of the pool
    that the others hold, on few cores for ever: calls of one program must depend on each other.

    Example:
        >>> after(jnp.array([1.0, 2.0]), jnp.array([[-3.0]])).tolist()
        [1.0, 2.0]
    """
    zero = jnp.minimum(jnp.abs(earlier.ravel()[0]), 0.0)  # which the compiler cannot know
    return array + zero.astype(array.dtype)


def split(parts: Decomposition, rank: int) -> tuple[jax.Array, jax.Array]:
    """Return U sqrt(S) and sqrt(S) V^T, cut to `rank`: `[..., rows, rank]`, `[..., rank, columns]`.

    Example:
        >>> matrix = jnp.array([[[3.0, 0.0], [0.0, 1.0]]])
        >>> left, right = split(decompose(matrix), 1)
        >>> jnp.round(left @ right, 5).tolist()
        [[[3.0, 0.0], [0.0, 0.0]]]
    """
    root = jnp.sqrt(parts.values[..., :rank])
    return parts.left[..., :rank] * root[..., None, :], root[..., :, None] * parts.right[
        ..., :rank, :
    ]


def to_factors(
    left: jax.Array, right: jax.Array, kernel: Sequence[int], form: str, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Return the kernels of the two operations.

    Args:
        left: `[groups, rows, rank]`.
        right: `[groups, rank, columns]`.
        kernel: shape of the kernel that they replace, as it is contracted.
        form: "dense", "channel" or "spatial".
        layout: which dimension is what.

    Returns:
        For a dot `[contracted..., rank]` and `[rank, free...]`; for a convolution two kernels in
        its own dimension order, whose groups' outputs stand one after the other.
    """
    groups, _, rank = left.shape
    rows, columns = row_and_column_dimensions(form, layout)
    if form == "dense":
        first = left[0].reshape(*(kernel[i] for i in rows), rank)
        return first, right[0].reshape(rank, *(kernel[i] for i in columns))
    sizes = dict(enumerate(kernel))
    sizes[layout["output"]] //= groups
    split_left = left.reshape(groups, *(sizes[i] for i in rows), rank)
    split_right = right.reshape(groups, rank, *(sizes[i] for i in columns))
    first = _to_kernel(split_left, [*rows, layout["output"]], len(kernel), layout["output"])
    second = _to_kernel(split_right, [layout["input"], *columns], len(kernel), layout["output"])
    return first, second


def _to_kernel(array: jax.Array, dimensions: Sequence[int], rank: int, output: int) -> jax.Array:
    """Order `[groups, *dimensions]` as a kernel; dimensions that are not named get size 1."""
    missing = [i for i in range(rank) if i not in dimensions]
    array = array.reshape(*array.shape, *[1] * len(missing))
    order = [*dimensions, *missing]
    ordered = array.transpose(0, *(1 + order.index(i) for i in range(rank)))
    grouped = jnp.moveaxis(ordered, 0, output)
    shape = list(ordered.shape[1:])
    shape[output] *= array.shape[0]
    return grouped.reshape(shape)
