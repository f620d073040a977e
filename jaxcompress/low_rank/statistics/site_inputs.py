"""What the uses of a site are given, as rows of its matrix, and how uses are put together."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.low_rank.factors import to_factors
from jaxcompress.low_rank.two_ops import first_operation

__all__ = ["extended_rows", "over_uses"]


def extended_rows(
    graph: Graph, node: Node, operands: Sequence[Array], position: int, path: str, name: str
) -> Array:
    """Return (x, 1) at every example and position of one use, `[n, groups, rows + 1]`.

    Args:
        graph: that has the site.
        node: the conv or dot.
        operands: what it is given.
        position: of the kernel among them.
        path: of the kernel.
        name: of the form whose matrix has these rows.
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
    return jnp.pad(rows, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)


def over_uses(graph: Graph, path: str, seen: Sequence[Array]) -> Array:
    """Stack what was seen in the steps of scans, `[uses, scanned..., ...]`.

    Raises:
        ValueError: if a scanned kernel has several uses, whose order in the scans is unknown.
    """
    site = graph.sites[path]
    lengths = site.shape[: sum(name == "slice" for name, _ in site.steps)]
    if lengths and site.uses > 1:
        raise ValueError(
            f"a scanned kernel has one covariance per step, but {path} is used {site.uses} times; "
            "leave it out"
        )
    stacked = jnp.stack(seen)
    return stacked.reshape(-1, *lengths, *stacked.shape[1:])
