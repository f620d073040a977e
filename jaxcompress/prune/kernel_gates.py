"""Gates folded into kernels, where every consumer of a group is a kernel of its own."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.compression.checks import check_widths
from jaxcompress.compression.precision import contained
from jaxcompress.graph import Graph
from jaxcompress.paths import flatten_with_paths

__all__ = ["gate"]


def gate(graph: Graph, variables: PyTree, gates: Mapping[str, Array]) -> PyTree:
    """Multiply kernel slices by gates, without rewriting the function.

    Equal to `gated` for groups whose every consumer is a leaf kernel that is used nowhere else.

    Args:
        graph: of a function of the variables.
        variables: pytree of arrays.
        gates: `{group: float[width]}`; may be traced.

    Raises:
        ValueError: if a group is unknown, a width wrong, or a group is consumed elsewhere.

    Example:
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> gate(graph, variables, {"a[1]": jnp.array([1.0, 0.0])})["b"].tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    check_widths(graph, gates, "gates", per_example=False)
    _check_kernels(graph, gates)
    leaves, treedef = flatten_with_paths(variables)
    for name, value in gates.items():
        group = graph.groups[name]
        for path, axis in {(c.path, c.axis) for c in group.consumers}:
            assert path is not None and axis is not None
            leaf, indices = leaves[path], group.member(path, axis).indices
            factor = jnp.ones(leaf.shape[axis], leaf.dtype)
            factor = factor.at[indices].set(jnp.asarray(value, leaf.dtype)[:, None])
            shape = [1] * leaf.ndim
            shape[axis] = -1
            factor = factor.reshape(shape)
            leaves[path] = contained(leaf, factor) * factor
    return jax.tree.unflatten(treedef, list(leaves.values()))


def _check_kernels(graph: Graph, gates: Mapping[str, Array]) -> None:
    wrong = [
        f"{name}: consumed at {consumer.source} "
        + ("without a leaf kernel" if consumer.path is None else f"by {consumer.path}, used twice")
        for name in gates
        for consumer in graph.groups[name].consumers
        if consumer.path is None or graph.uses.get(consumer.path, 0) != 1
    ]
    if wrong:
        raise ValueError(
            "gates on variables need every consumer of a group to be a leaf kernel used once, "
            f"but {'; '.join(wrong)}; use gated(graph, apply)"
        )
