"""The directions of a stream that its readers are given most of, from a few batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.compression.observing import observe
from jaxcompress.compression.precision import widened
from jaxcompress.finite import require_finite
from jaxcompress.graph.interpret import Node

__all__ = ["Weights", "first_rotation", "principal_directions", "stream_covariance"]

Weights = Callable[[Batch], Array]
"""`weights(batch) -> [examples, positions]`, how much each position counts."""


def stream_covariance(
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    readers: Sequence[str],
    width: int,
    weights: Weights | None,
) -> np.ndarray:
    """Return the mean over readers of E[x x^T] / E[|x|^2], `float64[width, width]`.

    What several kernels are given at once counts once. The sums of a batch are float32.

    Raises:
        ValueError: if there is no batch, or one gives NaN.
    """

    def of_batch(tree: PyTree, inputs: PyTree, counted: Array | None) -> tuple[Array, Array]:
        given: list[tuple[Array, Array]] = []

        def look(path: str, node: Node, operands: Sequence[Array], position: int) -> None:
            other = operands[1 - position]
            if not any(other is seen for seen, _ in given):
                axis = _contracted(node, 1 - position, width)
                given.append((other, _moment(jnp.moveaxis(other, axis, -1), counted)))

        observe(apply, tree, inputs, set(readers), look)
        return sum(moment for _, moment in given) / len(given), _total(inputs, counted)

    compiled = jax.jit(of_batch)
    mean, total = np.zeros((width, width)), 0.0
    for inputs in batches:
        counted = None if weights is None else weights(inputs)
        moment, count = (
            np.asarray(one, np.float64) for one in compiled(variables, inputs, counted)
        )
        total += float(count)
        mean += (moment - mean) * (float(count) / total if total else 1.0)
    if not total:
        raise ValueError("a covariance needs data, but no position of a batch counts; pass some")
    require_finite("the stream's covariance", mean, "look for NaN in the batches")
    return mean


def _contracted(node: Node, operand: int, width: int) -> int:
    numbers = node.equation.params["dimension_numbers"]
    if node.equation.primitive.name == "conv_general_dilated":
        return int(numbers.lhs_spec[1])
    axes = numbers[0][operand]
    return next(place for place in axes if node.inputs[operand].axes[place].size == width)


def _moment(rows: Array, counted: Array | None) -> Array:
    """Return E[x x^T] / E[|x|^2] of one reader, over all positions that count."""
    wide = widened(rows)
    if counted is not None:
        each = jnp.asarray(counted, wide.dtype)
        is_there = wide.shape[: each.ndim] == each.shape
        if is_there:
            shape = (*each.shape, *[1] * (wide.ndim - each.ndim))
            wide = wide * jnp.sqrt(each.reshape(shape))
    flat = wide.reshape(-1, wide.shape[-1])
    moment = jnp.matmul(flat.T, flat, precision="highest")
    return moment / jnp.maximum(jnp.trace(moment), jnp.finfo(moment.dtype).tiny)


def _total(inputs: PyTree, counted: Array | None) -> Array:
    if counted is not None:
        return jnp.asarray(counted, jnp.float32).sum()
    return jnp.asarray(jnp.shape(jax.tree.leaves(inputs)[0])[0], jnp.float32)


def first_rotation(width: int, has_ones: bool) -> np.ndarray:
    """Return Q whose last column is 1/sqrt(C), a reflection, or the identity.

    Example:
        >>> first_rotation(4, has_ones=True)[:, -1].round(3).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    if not has_ones:
        return np.eye(width)
    normal = np.full(width, -1 / np.sqrt(width))
    normal[-1] += 1
    return np.eye(width) - 2 * np.outer(normal, normal) / (normal @ normal)


def principal_directions(covariance: np.ndarray, has_ones: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal directions, most first, and the share of each, which sum to 1.

    With `has_ones` the last direction stays what it is, and last.

    Example:
        >>> directions, shares = principal_directions(np.diag([1.0, 3.0]), has_ones=False)
        >>> abs(directions).tolist(), shares.tolist()
        ([[0.0, 1.0], [1.0, 0.0]], [0.75, 0.25])
    """
    free = len(covariance) - has_ones
    values, vectors = np.linalg.eigh(covariance[:free, :free])
    directions, shares = np.eye(len(covariance)), np.diagonal(covariance).copy()
    directions[:free, :free], shares[:free] = vectors[:, ::-1], values[::-1]
    return directions, np.maximum(shares, 0) / max(float(np.trace(covariance)), 1e-30)
