"""Arrays of which other processes hold parts, brought to this one."""

from __future__ import annotations

import jax
from jax.experimental import multihost_utils

from jaxcompress.annotations import Array

__all__ = ["gathered"]


def gathered(array: Array) -> Array:
    """Return an array that this process holds whole; what it holds already, it returns as it is.

    All processes that hold parts call this together, array by array, so that one at a time is held
    twice.

    Example:
        >>> gathered(jax.numpy.arange(3)).tolist()
        [0, 1, 2]
    """
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return array
    if array.is_fully_addressable:
        return array
    if array.is_fully_replicated:
        return array.addressable_data(0)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = gathered(jax.random.key_data(array))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return multihost_utils.process_allgather(array, tiled=True)
