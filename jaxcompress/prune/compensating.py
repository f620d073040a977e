"""Kernels that make up for the channels they no longer see.

What a removed channel carried is partly told by those that stay: a kernel that reads them can take
over what a linear regression on them predicts. `absorb` puts the mean of it into biases; this is
the next order, and where a BatchNorm is re-estimated afterwards it is all that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.compression import Compression
from jaxcompress.compression.precision import widened
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.input_rows import described_by_inputs, forms_by_inputs, matrices_beside
from jaxcompress.graph.matrices import site_matrices, to_kernel
from jaxcompress.paths import flatten_with_paths

__all__ = ["compensate", "forms_that_lose"]


def forms_that_lose(graph: Graph, compression: Compression) -> dict[str, str]:
    """Return the kernels that lose inputs and can make up for them, and the forms of these inputs.

    They are what `compensate` needs covariances of. A kernel that is used at several places, or
    whose inputs are no rows of a matrix, is left as it is; so is one of which whole groups go with
    their outputs, as depthwise kernels do.

    Args:
        graph: of the whole network.
        compression: of `shrink`.

    Raises:
        ValueError: if the compression is of another kind.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.prune import shrink
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 1))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> forms_that_lose(graph, shrink(graph, {"a[1]": np.array([True, False])}))
        {'b': 'dense'}
    """
    kept = _kept(compression)
    forms = forms_by_inputs(graph, kept)
    stays = _rows_that_stay(graph, kept, {path: described_by_inputs(graph, path) for path in forms})
    return {path: form for path, form in forms.items() if _is_partial(stays[path])}


def compensate(
    graph: Graph,
    variables: PyTree,
    covariances: Mapping[str, Array],
    compression: Compression,
    *,
    ridge: float = 0.1,
) -> Any:
    """Return variables whose kernels read from what stays what they read from what goes.

    For a kernel M with inputs x, C = E[x x^T], kept rows K and removed rows R,
    M_K += (C_KK + ridge mean(diag C) I)^-1 C_KR M_R, the least squares of E|x^T M - x_K^T M'_K|^2
    (He et al. 2017, "Channel pruning for accelerating very deep neural networks", eq. 4; there
    layer by layer, here all at once from the whole network's inputs, because what one layer makes
    up for its successors need not). Then `compression.variables` of them, and BatchNorm
    re-estimated. No gradient, no labels.

    Args:
        graph: of the whole network.
        variables: of the whole network.
        covariances: C by path of the kernels to move, `[scanned..., groups, rows, rows]`:
            `low_rank.input_covariances(graph, apply, variables, batches, forms)` with
            `forms = forms_that_lose(graph, compression)`.
        compression: of `shrink`.
        ridge: share of the mean square that is added to every input's.

    Returns:
        The variables, in all shapes and dtypes as they were; kernels without a covariance as well
        as rows that go stay as they are.

    Raises:
        ValueError: if the compression is of another kind, a path is no site, a covariance does not
            fit, or something is not finite; all offenders are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.prune import shrink
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 2)), "b": jnp.array([[1.0], [2.0]])}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> compression = shrink(graph, {"a[1]": np.array([True, False])})
        >>> same = {"b": jnp.ones((1, 2, 2))}  # both channels always carry the same
        >>> moved = compensate(graph, variables, same, compression, ridge=1e-6)
        >>> jnp.allclose(moved["b"], jnp.array([[3.0], [2.0]]), atol=1e-4).item()
        True
    """
    require(ridge=real(ridge, above=0))
    kept = _kept(compression)
    leaves, treedef = flatten_with_paths(variables)
    sites, matrices = matrices_beside(graph, leaves, covariances)
    require_finite("variables", {path: leaves[path] for path in sites}, "train or load them again")
    require_finite("covariances", dict(covariances), "look for NaN in the batches")
    stays = _rows_that_stay(graph, kept, sites)
    for path, site in sites.items():
        moved = _moved(widened(matrices[path]), covariances[path], stays[path], ridge)
        leaves[path] = to_kernel(moved, site, jnp.asarray(leaves[path]))
    return jax.tree.unflatten(treedef, list(leaves.values()))


def _kept(compression: Compression) -> dict[str, dict[int, list[int]]]:
    """Return what every leaf keeps of its axes."""
    kind = compression.spec["kind"]
    if kind != "shrink":
        raise ValueError(
            f"what goes is told by a compression of `shrink`, but this one is of kind {kind!r}; "
            "compensate before other compressions follow"
        )
    leaves = compression.spec["leaves"]
    return {
        path: {int(axis): indices for axis, indices in leaf.get("keep", {}).items()}
        for path, leaf in leaves.items()
    }


def _rows_that_stay(
    graph: Graph, kept: Mapping[str, Mapping[int, list[int]]], sites: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return which rows of each site's matrices have a channel, `bool[..., groups, rows]`."""
    flags = {}
    for path in sites:
        shape = graph.leaves[path].shape
        stays = np.ones(shape, np.float32)
        for axis, indices in kept.get(path, {}).items():
            there = np.isin(np.arange(shape[axis]), indices)
            stays *= there.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        flags[path] = stays
    matrices = site_matrices(flags, sites)
    return {path: np.asarray(matrix).max(-1) > 0 for path, matrix in matrices.items()}


def _is_partial(stays: np.ndarray) -> bool:
    """Whether a matrix loses some of its rows, and not all."""
    return bool((stays.any(-1) & ~stays.all(-1)).any())


def _moved(matrix: jax.Array, covariance: Array, stays: np.ndarray, ridge: float) -> jax.Array:
    """Return the kernel `[..., rows, columns]` with its kept rows moved; solved in float64."""
    wide, squares = np.array(matrix, np.float64), np.asarray(covariance, np.float64)
    for place in np.ndindex(stays.shape[:-1]):
        kept, square = stays[place], squares[place]
        if kept.all() or not kept.any():
            continue
        mean = np.trace(square) / len(square)
        added = (ridge * mean if mean > 0 else 1.0) * np.eye(kept.sum())
        across = square[np.ix_(kept, ~kept)] @ wide[place][~kept]
        wide[place][kept] += np.linalg.solve(square[np.ix_(kept, kept)] + added, across)
    return jnp.asarray(wide, jnp.float32)
