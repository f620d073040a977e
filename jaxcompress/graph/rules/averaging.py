"""Running sums on fewer channels: a mean over what is left, where that is what means divide by."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.means import over_kept, summands, summed_axes

__all__ = ["rebind_sum"]


def rebind_sum(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Sum what is left; of a mean over what is left, so that the program's division is by that."""
    (total,) = bind(node.equation, arrays)
    divided = node.divided
    if rewriting.means != "kept" or divided is None or divided.ddof is None:
        return [total]
    pairs = [[axis for axis in axes if axis.labels is not None] for axes in summed_axes(node)]
    summed = [axes[0] for axes in pairs if axes]
    kept, size = prod(map(rewriting.size, summed)), prod(axis.size for axis in summed)
    if kept in (0, size):
        return [total]
    factor = over_kept(divided.ddof, summands(node), kept / size)
    wide = jnp.promote_types(total.dtype, jnp.float32)
    return [(total.astype(wide) * jnp.asarray(factor, wide)).astype(total.dtype)]
