"""Which groups lie inside a block, and which are residual streams that many blocks share."""

from __future__ import annotations

from jaxcompress.graph.record import Graph

__all__ = ["internal_groups", "streams"]


def streams(graph: Graph) -> list[str]:
    """Name the groups along which two branches are added somewhere: residual streams.

    A branch is what depends on the inputs through other convolutions, dots or table look-ups than
    its partner, so that products, gates, biases, normalisation and activations make no stream.
    What holds of the first function traced counts; a sum over stacked branches is not seen.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> apply = lambda v, x: jnp.tanh(x @ v["a"] + x @ v["skip"]) @ v["b"]
        >>> shapes = {"a": (3, 4), "skip": (3, 4), "b": (4, 2)}
        >>> variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> streams(trace(apply, variables, jnp.ones((5, 3))))
        ['a[1]']
        >>> gated = lambda v, x: (jnp.tanh(x @ v["a"]) * (x @ v["skip"])) @ v["b"]
        >>> streams(trace(gated, variables, jnp.ones((5, 3))))
        []
    """
    return list(graph.streams)


def internal_groups(graph: Graph) -> list[str]:
    """Return the groups inside blocks: all but residual `streams` and the layers of a scan.

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
    shared = set(graph.streams)
    return [name for name, g in graph.groups.items() if name not in shared and not g.is_depth]
