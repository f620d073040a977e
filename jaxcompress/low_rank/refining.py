"""Better factors of the same ranks: the error of a convolution's whole output, made smaller.

A `spatial` split by singular values counts the error of each horizontal tap apart, but the output
is the sum of all taps. With the covariance C of full patches the error of the output is
tr(D^T C D G), D = M - L R seen as a matrix of full patches x outputs; it is quadratic in each
factor, and both are improved in turn by conjugate gradients. G weighs the outputs (see
`output_covariances`). For `channel` and `dense` the weighted singular value decomposition is the
optimum already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression.record import Compression
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.low_rank.site_factors import halves_of, leaves_of
from jaxcompress.paths import flatten_with_paths

__all__ = ["improve", "refine"]


def refine(
    lowrank: Compression,
    variables: PyTree,
    small: PyTree,
    covariances: Mapping[str, Array],
    outputs: Mapping[str, Array] | None = None,
    rounds: int = 2,
) -> PyTree:
    """Return factors whose outputs err less on the data that the covariances are of.

    Args:
        lowrank: of `factorize`.
        variables: the original variables.
        small: what `lowrank.variables` made of them, best with `roots`.
        covariances: C by site, of full patches: `input_covariances` of the form "channel". Sites
            that are not named, or not spatial, keep their factors.
        outputs: G by site, `[scanned..., groups, channels, channels]`, of `output_covariances` and
            best with a ridge; without it all channels count alike.
        rounds: how often both halves are solved for.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.low_rank import factorize
        >>> variables = {"a": jnp.eye(3)}
        >>> lowrank = factorize(trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 3))), {})
        >>> refine(lowrank, variables, variables, {}) is variables
        True
    """
    require(rounds=integer(rounds, least=0))
    described = lowrank.spec["sites"]
    sites = {p: s for p, s in described.items() if s["form"] == "spatial" and p in covariances}
    if not sites:
        return small
    originals, _ = flatten_with_paths(variables)
    leaves, treedef = flatten_with_paths(small, whole=described)
    halves, matrices = halves_of(leaves, sites), site_matrices(originals, sites)
    orders = _places({path: originals[path].shape for path in sites}, sites)
    better = {}
    for path in sites:
        left, right, matrix = (np.asarray(a, np.float64) for a in (*halves[path], matrices[path]))
        weights, dtype = None if outputs is None else outputs[path], originals[path].dtype
        made = improve(left, right, matrix, covariances[path], orders[path], weights, rounds)
        better[path] = [jnp.asarray(half, dtype) for half in made]
    return jax.tree.unflatten(treedef, list({**leaves, **leaves_of(better, sites)}.values()))


def _places(
    shapes: Mapping[str, tuple[int, ...]], sites: Mapping[str, Mapping[str, Json]]
) -> dict[str, np.ndarray]:
    """Return where the entries of the full-patch matrices stand in those of the sites' forms."""
    numbers = {path: np.arange(np.prod(shape)).reshape(shape) for path, shape in shapes.items()}
    full = {path: {**site, "form": "channel"} for path, site in sites.items()}
    entries, patches = (site_matrices(numbers, described) for described in (sites, full))
    return {
        path: np.argsort(np.asarray(entries[path]).ravel())[np.asarray(patches[path]).ravel()]
        for path in sites
    }


def improve(
    left: np.ndarray,
    right: np.ndarray,
    matrix: np.ndarray,
    covariance: np.ndarray,
    order: np.ndarray,
    weights: np.ndarray | None = None,
    rounds: int = 2,
    steps: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right with less tr(D^T C D G), D the full patches of matrix - left @ right.

    Args:
        left: `[..., rows, rank]`.
        right: `[..., rank, columns]`.
        matrix: `[..., rows, columns]`.
        covariance: C, `[..., patch, patch]`.
        order: `D.ravel() = (matrix - left @ right).ravel()[order]`.
        weights: G, `[..., outputs, outputs]`; None for the identity.
        rounds: how often each half is solved for.
        steps: of conjugate gradients per half.

    Example:
        >>> left, right = np.array([[1.0], [0.0]]), np.array([[0.5, 0.0]])
        >>> factors = improve(left, right, np.diag([2.0, 1.0]), np.eye(2), np.arange(4))
        >>> np.round(factors[0] @ factors[1], 3).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    inverse = np.argsort(order)
    patches = (*matrix.shape[:-2], covariance.shape[-1], -1)

    def weigh(entries: np.ndarray) -> np.ndarray:
        full = entries.ravel()[order].reshape(patches)
        image = covariance @ full if weights is None else covariance @ full @ weights
        return np.asarray(image.ravel()[inverse].reshape(matrix.shape))

    target = weigh(matrix)
    for _ in range(rounds):
        # Orthonormal columns keep each half well conditioned.
        basis, values, rest = np.linalg.svd(left, full_matrices=False)
        left, start = basis, values[..., None] * (rest @ right)
        normal = _on_right(weigh, left)
        right = _conjugate_gradients(normal, left.swapaxes(-1, -2) @ target, start, steps)
        rest, values, basis = np.linalg.svd(right, full_matrices=False)
        right, start = basis, (left @ rest) * values[..., None, :]
        normal = _on_left(weigh, right)
        left = _conjugate_gradients(normal, target @ right.swapaxes(-1, -2), start, steps)
    return left, right


Map = Callable[[np.ndarray], np.ndarray]


def _on_right(weigh: Map, left: np.ndarray) -> Map:
    return lambda right: np.asarray(left.swapaxes(-1, -2) @ weigh(left @ right))


def _on_left(weigh: Map, right: np.ndarray) -> Map:
    return lambda left: np.asarray(weigh(left @ right) @ right.swapaxes(-1, -2))


def _conjugate_gradients(
    operator: Map, target: np.ndarray, start: np.ndarray, steps: int
) -> np.ndarray:
    """Solve operator(x) = target for a symmetric positive operator, from a start."""
    solution, residual = start, target - operator(start)
    direction, size = residual, float((residual**2).sum())
    smallest = 1e-24 * float((target**2).sum())
    for _ in range(steps):
        if size <= smallest:
            break
        image = operator(direction)
        rate = size / float((direction * image).sum())
        solution, residual = solution + rate * direction, residual - rate * image
        before, size = size, float((residual**2).sum())
        direction = residual + size / before * direction
    return solution
