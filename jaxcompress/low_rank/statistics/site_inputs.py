"""What the uses of a site are given, as rows of its matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.low_rank.factors import to_factors
from jaxcompress.low_rank.two_ops import first_operation

__all__ = ["There", "extended_rows"]

There: TypeAlias = Callable[[Any], Array]
"""`mask(inputs) -> [examples, length]`, nonzero where a position of a sequence is no padding."""


def extended_rows(
    graph: Graph,
    node: Node,
    operands: Sequence[Array],
    position: int,
    path: str,
    name: str,
    there: Array | None = None,
) -> Array:
    """Return (x, 1) at every example and position of one use, `[n, groups, rows + 1]`.

    Args:
        graph: that has the site.
        node: the conv or dot.
        operands: what it is given.
        position: of the kernel among them.
        path: of the kernel.
        name: of the form whose matrix has these rows.
        there: `[examples, length]`, nonzero where a position is no padding: other rows are zero,
            their 1 too. None where all count.
    """
    form, layout = graph.sites[path].form(name), graph.sites[path].layout
    kernel, other = operands[position], operands[1 - position]
    eye = jnp.broadcast_to(jnp.eye(form.rows, dtype=kernel.dtype), (form.groups, *[form.rows] * 2))
    # The first operation by identity gives x. Only the left factor is wanted; the right one needs
    # the right number of entries.
    right = jnp.zeros((form.groups, form.rows, form.columns), kernel.dtype)
    factor, _ = to_factors(eye, right, kernel.shape, name, layout)
    seen = first_operation(node, other, factor, position, name)
    if name != "dense":
        seen = jnp.moveaxis(seen, node.equation.params["dimension_numbers"].out_spec[1], -1)
    rows = seen.reshape(-1, form.groups, form.rows).astype(jnp.float32)
    extended = jnp.pad(rows, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)
    if there is None or not _has_positions(node, other, position, there):
        return extended
    counts = jnp.repeat(there.reshape(-1) != 0, len(rows) // there.size)
    return jnp.where(counts[:, None, None], extended, 0.0)


def _has_positions(node: Node, other: Array, position: int, there: Array) -> bool:
    """Whether the rows of a dot begin with examples and positions, as two axes or as one."""
    if node.equation.primitive.name != "dot_general":
        return False
    contracted = node.equation.params["dimension_numbers"][0][1 - position]
    kept = [other.shape[axis] for axis in range(other.ndim) if axis not in contracted]
    leading = [axis for axis in (0, 1) if axis in contracted]
    apart = kept[:2] == [*there.shape] and not leading
    return apart or (kept[:1] == [there.size] and 0 not in leading)
