"""Half precision: stored in 16 bits, but summed and decomposed in 32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.parallel import on_host

__all__ = ["contained", "exact", "like", "namespace", "scaled", "widened"]


def widened(array: Array) -> jax.Array:
    """Return a float array in float32 at least; integers stay as they are.

    Example:
        >>> widened(jnp.ones(2, jnp.bfloat16)).dtype.name, widened(jnp.arange(2)).dtype.name
        ('float32', 'int32')
    """
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def exact(array: Array) -> Any:
    """Return an array on the host in float64, to be summed there; a traced one in float32 at least.

    Example:
        >>> exact(jnp.ones(2, jnp.bfloat16)).dtype.name
        'float64'
    """
    traced = isinstance(array, jax.core.Tracer)
    return widened(array) if traced else on_host(array).astype(np.float64)


def namespace(array: Array) -> Any:
    """Return the module of functions for an array: `jax.numpy` for a traced one, else `numpy`.

    Example:
        >>> namespace(jnp.ones(2)).__name__
        'numpy'
    """
    return jnp if isinstance(array, jax.core.Tracer) else np


def like(array: jax.Array, leaf: Array) -> jax.Array:
    """Return an array in the dtype of a float leaf; beside other leaves it stays as it is.

    Example:
        >>> like(jnp.ones(2), jnp.ones(3, jnp.float16)).dtype.name
        'float16'
    """
    dtype = jnp.result_type(leaf)
    return array.astype(dtype) if jnp.issubdtype(dtype, jnp.inexact) else array


def contained(array: jax.Array, factor: Array) -> jax.Array:
    """Return array, with 0 for what is not finite where the factor is 0: 0 x inf would be NaN.

    All that is finite stays as it is, gradients included.

    Example:
        >>> contained(jnp.array([jnp.inf, 3.0, jnp.inf]), jnp.array([0.0, 0.0, 0.5])).tolist()
        [0.0, 3.0, inf]
    """
    return jnp.where((factor == 0) & ~jnp.isfinite(array), jnp.zeros_like(array), array)


def scaled(array: jax.Array, factor: jax.Array, is_linear: bool = False) -> jax.Array:
    """Return array * factor in the array's dtype, whose gradient by the factor is a float32 sum.

    What is not finite counts nothing where the factor is 0. Of a tangent (`is_linear`) nothing does
    there, since whether it is finite is no linear function of it; factors have no gradient then.

    Example:
        >>> scaled(jnp.array([3.0, jnp.inf], jnp.bfloat16), jnp.array([2.0, 0.0])).tolist()
        [6.0, 0.0]
    """
    wide = widened(array)
    left = jnp.where(factor == 0, 0, wide) if is_linear else contained(wide, factor)
    return (left * factor.astype(wide.dtype)).astype(array.dtype)
