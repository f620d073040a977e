"""Compiling what the library runs itself: convolutions are fast where nothing is split."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax.extend.core import Jaxpr, jaxpr_as_fun

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.backend.convolutions import fast_convolutions
from jaxcompress.graph.internals import inner_jaxprs

__all__ = ["compiled", "fast_if_large", "is_alone"]

LARGE = 10**7
"""Multiply-accumulates of convolutions below which programs are left as they are; not tuned."""


def compiled(function: Function) -> Function:
    """Return `jax.jit(function)`, with `fast_convolutions` where all arguments lie on one device.

    What is traced, or split over devices, is compiled as it is.

    Example:
        >>> import jax.numpy as jnp
        >>> float(compiled(lambda x: (x**2).sum())(jnp.ones(3)))
        3.0
    """
    whole, fast = jax.jit(function), jax.jit(fast_if_large(function))

    @functools.wraps(function)
    def run(*args: PyTree) -> Any:
        return (fast if is_alone(args) else whole)(*args)

    return run


def fast_if_large(function: Function) -> Function:
    """Return `fast_convolutions(function)`, which leaves small programs as they are.

    Example:
        >>> int(fast_if_large(lambda x: x + 1)(2))
        3
    """

    @functools.wraps(function)
    def run(*args: PyTree) -> Any:
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        whole = jaxpr_as_fun(jaxpr)
        call = fast_convolutions(whole) if _work(jaxpr.jaxpr) > LARGE else whole
        return jax.tree.unflatten(jax.tree.structure(shape), call(*jax.tree.leaves(args)))

    return run


def is_alone(tree: PyTree) -> bool:
    """Whether every array of a tree is known, and on one device.

    Example:
        >>> import jax.numpy as jnp
        >>> is_alone({"a": jnp.ones(2), "b": 1.0})
        True
    """
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    traced = any(isinstance(array, jax.core.Tracer) for array in arrays)
    return not traced and all(len(array.sharding.device_set) == 1 for array in arrays)


def _work(jaxpr: Jaxpr) -> float:
    """Count the multiply-accumulates of convolutions, each loop's body once."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel: Array = equation.invars[1].aval
            outputs: Array = equation.outvars[0].aval
            features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += outputs.size * kernel.size / max(features, 1)
        total += sum(_work(inner.jaxpr) for inner in inner_jaxprs(equation))
    return total
