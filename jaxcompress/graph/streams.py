"""Which groups lie inside a block, and which are residual streams that many blocks share."""

from __future__ import annotations

from jaxcompress.graph.record import Graph

__all__ = ["internal_groups", "streams"]


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


def streams(graph: Graph) -> list[str]:
    """Name the groups that several kernels produce: residual streams, which are mostly sums.

    Depthwise kernels, which pass the channels of another on, are not counted.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> apply = lambda v, x: jnp.tanh(x @ v["a"] + x @ v["skip"]) @ v["b"]
        >>> shapes = {"a": (3, 4), "skip": (3, 4), "b": (4, 2)}
        >>> variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> streams(trace(apply, variables, jnp.ones((5, 3))))
        ['a[1]']
    """
    return [
        name
        for name, group in graph.groups.items()
        if len({member.path for member in group.producers}) > 1
    ]
