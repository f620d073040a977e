"""How many candidates fit into the memory of a device together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.graph.internals import inner_jaxprs

__all__ = ["chunk_size"]

CPU_MEMORY = 2**26
"""On few cores a large vmap gains nothing and leaves the caches: 64 MiB."""


def chunk_size(
    loss: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batch: Batch,
    memory: int | None = None,
) -> int:
    """Estimate how many candidates fit into memory together.

    Evaluation holds few arrays at a time: an operation's input, output, and workspace. Four times
    the largest intermediate array of the loss is allowed for each candidate.

    Args:
        loss: `loss(variables, batch)`.
        variables: pytree of arrays or `jax.ShapeDtypeStruct`.
        batch: likewise.
        memory: bytes; default a half of what the first device says is free, or 64 MiB where it
            does not say (CPU).

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda variables, x: (x @ variables).sum()
        >>> chunk_size(loss, jnp.ones((4, 256)), jnp.ones((10, 4)), memory=100_000)
        2
    """
    require(memory=integer(memory, least=0, optional=True))
    jaxpr = jax.make_jaxpr(loss)(variables, batch)
    largest = max(_sizes(jaxpr.jaxpr), default=1)
    available = _free_memory() if memory is None else memory
    return max(1, int(available // (4 * largest)))


def _sizes(jaxpr: Any) -> list[int]:
    """Return the bytes of every intermediate array, inner programs included."""
    sizes = []
    for equation in jaxpr.eqns:
        avals = [variable.aval for variable in equation.outvars]
        sizes += [a.size * a.dtype.itemsize for a in avals if hasattr(a, "dtype")]
        for inner in inner_jaxprs(equation):
            sizes += _sizes(inner.jaxpr)
    return sizes


def _free_memory() -> int:
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return CPU_MEMORY
    return (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)) // 2
