"""Taking indices that are known on the host: a gather that a second reading sees through."""

from __future__ import annotations

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["select", "selected", "sliced"]


def select(array: Array, indices: np.ndarray, axis: int, distinct: bool = True) -> Array:
    """Take indices, each at most once if they are `distinct`, along one axis.

    Unlike `jnp.take` this is one equation, whose indices are a constant of the jaxpr.

    Example:
        >>> select(np.arange(4.0), np.array([3, 1]), 0).tolist()
        [3.0, 1.0]
    """
    others = tuple(i for i in range(array.ndim) if i != axis)
    numbers = lax.GatherDimensionNumbers(others, (axis,), (axis,))
    sizes = tuple(1 if i == axis else size for i, size in enumerate(array.shape))
    columns = np.asarray(indices, np.int32)[:, None]
    return lax.gather(array, columns, numbers, sizes, unique_indices=distinct, mode="clip")


def selected(equation: JaxprEqn, indices: np.ndarray | None) -> tuple[int, np.ndarray] | None:
    """Return the axis and indices that a gather takes, if it takes known ones and all else whole.

    Args:
        equation: a gather.
        indices: its indices, None where they are computed.
    """
    numbers, shape = equation.params["dimension_numbers"], shape_of(equation.invars[0])
    if indices is None or indices.ndim != 2 or len(numbers.start_index_map) != 1:
        return None
    (axis,) = numbers.start_index_map
    others = tuple(i for i in range(len(shape)) if i != axis)
    sizes = tuple(1 if i == axis else size for i, size in enumerate(shape))
    is_plain = (
        numbers.offset_dims == others
        and numbers.collapsed_slice_dims == (axis,)
        and equation.params["slice_sizes"] == sizes
        and bool(((indices >= 0) & (indices < shape[axis])).all())
    )
    return (axis, indices[:, 0]) if is_plain else None


def sliced(equation: JaxprEqn, indices: np.ndarray | None) -> tuple[int, slice] | None:
    """Return the axis and range that a gather takes, if it takes a known range and all else whole.

    A slice of an array with a symbolic axis is such a gather; of others it is a `slice`.

    Args:
        equation: a gather.
        indices: its indices, None where they are computed.
    """
    numbers, shape = equation.params["dimension_numbers"], shape_of(equation.invars[0])
    sizes = equation.params["slice_sizes"]
    if indices is None or indices.shape != (1,) or not is_symbolic(*shape):
        return None
    (axis,), start = numbers.start_index_map, int(indices[0])
    if is_symbolic(shape[axis]) or not 0 <= start <= shape[axis] - sizes[axis]:
        return None
    others = [i for i in range(len(shape)) if i != axis]
    is_whole = all(sizes[i] == shape[i] for i in others)
    passed = set(numbers.collapsed_slice_dims) <= {axis} and not numbers.operand_batching_dims
    return (axis, slice(start, start + sizes[axis])) if is_whole and passed else None
