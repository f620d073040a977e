"""Integers that a program knows before it runs: the indices of a shuffle, however they are made.

Indexing wraps negative indices and adds an axis before it takes anything, so indices that are a
constant of the program reach a gather through a few equations. These are computed on the host while
the program is read, without JAX: nothing is compiled and nothing staged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["ARITHMETIC", "moved", "moves", "with_known"]

LARGEST = 1 << 16
"""Entries of the largest array worth knowing: more than any axis of channels has."""

Known = Callable[..., Any]


def with_known(
    equation: JaxprEqn, inputs: Sequence[Value], outputs: Sequence[Value]
) -> Sequence[Value]:
    """Return an equation's results, with the integers that they hold where those are known."""
    operation = OPERATIONS.get(equation.primitive.name)
    if operation is None or any(value.indices is None for value in inputs):
        return outputs
    aval: Array = equation.outvars[0].aval
    shape = shape_of(equation.outvars[0])
    if is_symbolic(*shape) or prod(shape) > LARGEST or aval.dtype.kind not in "biu":
        return outputs
    with np.errstate(all="ignore"):  # integers wrap around, as they do on the device
        made = operation(equation.params, *(value.indices for value in inputs))
    return [replace(outputs[0], indices=np.asarray(made, aval.dtype).reshape(shape))]


def moves(equation: JaxprEqn) -> bool:
    """Tell whether an equation only moves or repeats the entries of its one operand."""
    return equation.primitive.name in MOVES and not is_symbolic(*shape_of(equation.outvars[0]))


def moved(equations: Sequence[JaxprEqn], array: np.ndarray) -> np.ndarray:
    """Return what equations that only move entries make of an array: a view wherever it can be."""
    for equation in equations:
        operation = OPERATIONS[equation.primitive.name]
        array = operation(equation.params, array).reshape(shape_of(equation.outvars[0]))
    return array


def _broadcast(params: Mapping[str, Any], array: Array) -> Array:
    dimensions = params["broadcast_dimensions"]
    sizes = [1] * len(params["shape"])
    for dimension, size in zip(dimensions, array.shape, strict=True):
        sizes[dimension] = size
    return np.broadcast_to(array.reshape(sizes), params["shape"])


def _select(_: Mapping[str, Any], which: Array, *cases: Array) -> Array:
    return np.choose(np.asarray(which, np.int64), cases)


def _slice(params: Mapping[str, Any], array: Array) -> Array:
    strides = params["strides"] or (1,) * array.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return array[tuple(slice(*each) for each in bounds)]


def _iota(params: Mapping[str, Any]) -> Array:
    shape, dimension = params["shape"], params["dimension"]
    sizes = [size if i == dimension else 1 for i, size in enumerate(shape)]
    return np.broadcast_to(np.arange(shape[dimension]).reshape(sizes), shape)


def _unchanged(_: Mapping[str, Any], array: Array) -> Array:
    return array


def _of(function: Known) -> Known:
    return lambda _, *arrays: function(*arrays)


UNCHANGED = "convert_element_type copy copy_p pcast pvary reshape squeeze stop_gradient"
MOVES = (*UNCHANGED.split(), "broadcast_in_dim", "transpose")
ARITHMETIC: dict[str, Known] = {
    "add": np.add,
    "and": np.bitwise_and,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "rem": np.fmod,
    "sub": np.subtract,
}
OPERATIONS: dict[str, Known] = {
    **{name: _unchanged for name in UNCHANGED.split()},
    **{name: _of(function) for name, function in ARITHMETIC.items()},
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, *arrays: np.concatenate(arrays, params["dimension"]),
    "iota": _iota,
    "rev": lambda params, array: np.flip(array, params["dimensions"]),
    "select_n": _select,
    "slice": _slice,
    "transpose": lambda params, array: np.transpose(array, params["permutation"]),
}
