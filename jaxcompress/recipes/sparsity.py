"""`sparse`: from a trained network and a sparsity to kernels with exact zeros."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.compression import Compression
from jaxcompress.compression.precision import widened
from jaxcompress.graph import Graph, default_trainable, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.importance.checks import check_scalar
from jaxcompress.recipes.examples import Inputs, inputs_of, one_example, opened
from jaxcompress.sparse import Scope, Score, magnitude, make_masks, sparsify
from jaxcompress.sparse.patterns import Pattern

__all__ = ["sparse"]


def sparse(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch] | None,
    sparsity: float,
    *,
    loss: Callable[[PyTree, Batch], jax.Array] | None = None,
    score: Score = magnitude,
    scope: Scope = "global",
    pattern: Pattern | None = None,
    protect: Sequence[str] = (),
    include: Sequence[str] = (),
    most: int = 64,
    inputs: Inputs = inputs_of,
    graph: Graph | None = None,
    key: jax.Array | None = None,
) -> Compression:
    """Set the kernel weights to zero that a network misses least, at once.

    w <- w where s(w) is among the (1 - sparsity) n largest of the n weights that compete, else 0;
    by default s = |w|, and the weights of all kernels compete. Kernels are what the graph sees
    contracted and nothing else: no biases, scales, statistics or embeddings. Of all scores and
    scopes this is the best one, or within a point of it, on ResNet-20 trained on digits at 80, 90
    and 95 % zeros (`benchmarks.sparse_defaults`); re-estimate BatchNorm afterwards.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the trained network.
        batches: an iterable of batches; the first is looked at for its shapes, and scores that
            need gradients average these over up to `most`. None if there is a `graph`.
        sparsity: fraction of the kernels' weights that goes, in [0, 1).
        loss: `loss(variables, batch) -> scalar`, for scores that need gradients.
        score: `jc.sparse.magnitude`, `gradient_times_weight`, `random`, or another one.
        scope: "global", "erk" or "uniform", how the sparsity spreads over kernels.
        pattern: which weights go together, single ones by default; `jc.sparse.NofM(2, 4)` wants
            "uniform".
        protect: patterns of leaf paths that stay whole.
        include: patterns of leaves to prune though they are no kernels.
        most: batches that gradients are averaged over.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        graph: of the network.
        key: of random scores.

    Returns:
        A pure `Compression`; the function does not change.

    Raises:
        ValueError: if the sparsity, scope, pattern or a leaf is refused by `make_masks`, a loss is
            missing, or there is neither a batch nor a graph.
        TypeError: if batches is one batch.

    Example:
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"] + variables["b"])
        >>> variables = {"a": jnp.array([[1.0, -2.0], [0.5, 4.0]]), "b": jnp.ones(2)}
        >>> compression = sparse(apply, variables, [jnp.ones((3, 2))], 0.5)
        >>> compression.variables(variables)["a"].tolist()
        [[1.0, 0.0], [0.0, 4.0]]
    """
    require(sparsity=real(sparsity, least=0, below=1), most=integer(most))
    _check(batches, graph, score, loss)
    gradients = None
    if batches is not None:
        first, every = opened(batches)
        graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
        if score.needs_gradient and loss is not None:
            check_scalar(loss, variables, first)
            gradients = _gradients(loss, variables, itertools.islice(every, most))
    masks = make_masks(
        variables,
        sparsity,
        score=score,
        scope=scope,
        pattern=pattern,
        protect=protect,
        gradients=gradients,
        key=key,
        graph=graph,
        include=include,
    )
    return sparsify(variables, masks, pattern=pattern, graph=graph)


def _check(batches: Any, graph: Graph | None, score: Score, loss: Any) -> None:
    """Raise unless kernels can be told, and gradients where the score needs them."""
    if batches is None and (graph is None or score.needs_gradient):
        raise ValueError(
            "kernels are known by a graph, and gradients by data, but batches and graph are "
            f"{(batches, graph)}; pass batches, whose first one tells the shapes"
        )
    if score.needs_gradient and loss is None:
        raise ValueError("this score reads gradients of a loss, but loss is None; pass loss=")


def _gradients(
    loss: Callable[[PyTree, Batch], jax.Array], variables: PyTree, batches: Iterable[Batch]
) -> dict[str, jax.Array]:
    """Return the mean gradient of the trainable leaves, by path."""
    leaves, treedef = flatten_with_paths(variables)
    trainable = default_trainable(variables)
    weights = {path: leaf for path, leaf in leaves.items() if trainable(path, leaf)}

    def of_leaves(changed: dict[str, jax.Array], batch: Batch) -> jax.Array:
        return loss(jax.tree.unflatten(treedef, list({**leaves, **changed}.values())), batch)

    gradient, total, count = jax.jit(jax.grad(of_leaves)), None, 0
    for batch in batches:
        gradients = jax.tree.map(widened, gradient(weights, batch))
        total = gradients if total is None else jax.tree.map(jnp.add, total, gradients)
        count += 1
    return jax.tree.map(lambda leaf: leaf / count, total)
