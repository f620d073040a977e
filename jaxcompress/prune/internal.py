"""Which groups lie inside a block, and which are residual streams that many blocks share."""

from __future__ import annotations

from jaxcompress.graph import Graph

__all__ = ["internal_groups"]


def internal_groups(graph: Graph) -> list[str]:
    """Return the groups that one kernel produces: all but residual streams and tied widths.

    Depthwise kernels, which pass the channels of another on, are none of their own.

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
    return [name for name, group in graph.groups.items() if len(group.producers) == 1]
