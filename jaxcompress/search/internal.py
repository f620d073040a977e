"""Which groups lie inside a block: all that are no residual streams, which blocks share."""

from __future__ import annotations

from jaxcompress.graph import Graph
from jaxcompress.importance import streams

__all__ = ["internal_groups"]


def internal_groups(graph: Graph) -> list[str]:
    """Return the groups that are no residual `importance.streams`: widths of one branch each.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> def apply(variables, x):
        ...     stream = x @ variables["in"]
        ...     stream = stream + jnp.tanh(stream @ variables["up"]) @ variables["down"]
        ...     return stream @ variables["out"]
        >>> shapes = {"in": (3, 4), "up": (4, 8), "down": (8, 4), "out": (4, 2)}
        >>> variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> internal_groups(trace(apply, variables, jnp.ones((1, 3))))
        ['up[1]']
    """
    shared = set(streams(graph))
    return [name for name in graph.groups if name not in shared]
