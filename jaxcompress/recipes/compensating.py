"""`compensate`: the kernels of a network that loses channels make up for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.prune import compensating
from jaxcompress.recipes.examples import (
    Inputs,
    Mask,
    Seen,
    cut,
    gather,
    inputs_of,
    one_example,
    opened,
)
from jaxcompress.recipes.observing import covariances_of_seen

__all__ = ["compensate"]


def compensate(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch],
    compression: Compression,
    *,
    examples: int = 512,
    size: int = 128,
    ridge: float = 0.1,
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
    graph: Graph | None = None,
) -> Any:
    """Return variables whose kernels read from what stays what they read from what goes.

    `prune.compensate` with the covariances of `examples`: least squares, no gradient, no labels::

        compression = jc.recipes.prune(apply, variables, batches, budget, key=key)
        whole = jc.recipes.compensate(apply, variables, batches, compression)
        small = compression.variables(whole)  # then re-estimate BatchNorm

    ResNet-20 at half of its FLOPs by `prune`: 82.20 instead of 79.27 % (`benchmarks.front_doors`,
    10,000 test images, one seed). What `prune` gets from a lesson afterwards is not measured.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the whole network.
        batches: an iterable of batches; see `prune`.
        compression: what `prune` has returned.
        examples: how many are looked at; a kernel of r inputs takes r ** 2 numbers.
        size: examples that are looked at together.
        ridge: see `prune.compensate`.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        mask: which positions of a batch are no padding; see `prune`.
        graph: of the network, traced otherwise than on one example of `apply`.

    Returns:
        The variables, in all shapes as they were.

    Raises:
        ValueError: if the compression is not of `prune`, batches are empty or unlike, or something
            is not finite.
        TypeError: if batches is one batch.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcompress as jc
        >>> from jaxcompress.recipes import Magnitude, prune
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.array([[1.0, 0.9]]), "b": jnp.ones((2, 1))}
        >>> batches, budget = [jnp.linspace(-1, 1, 8)[:, None]], jc.Budget(flops=0.5)
        >>> settings = {"key": jax.random.key(0), "importance": Magnitude(), "distance": None}
        >>> compression = prune(apply, variables, batches, budget, **settings)
        >>> whole = compensate(apply, variables, batches, compression, ridge=1e-6)
        >>> jnp.allclose(compression.variables(whole)["b"], 1.9, atol=0.05).item()
        True
    """
    require(examples=integer(examples), size=integer(size))
    first, every = opened(batches)
    graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
    forms = compensating.forms_that_lose(graph, compression)
    if not forms:
        return variables
    looked = [Seen.of(batch, inputs, mask) for batch in cut(gather(every, examples), size)]
    covariances = covariances_of_seen(graph, apply, variables, looked, forms)
    return compensating.compensate(graph, variables, covariances, compression, ridge=ridge)
