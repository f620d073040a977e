"""`sparse`: from a trained network and a sparsity to kernels with exact zeros."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.backend import compiled
from jaxcompress.compression import Compression
from jaxcompress.compression.precision import widened
from jaxcompress.graph import Graph, default_trainable, trace
from jaxcompress.graph.input_rows import forms_by_inputs
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.importance.checks import check_scalar
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
from jaxcompress.sparse import Scope, Score, magnitude, make_masks, masked, reconstruct, sparsify
from jaxcompress.sparse.patterns import Block, NofM, Pattern

__all__ = ["Sparse", "sparse"]

SIZE = 128
"""How many examples are looked at together."""


class Sparse(NamedTuple):
    """A network with zeros.

    Attributes:
        compression: `.variables` sets the weights of any variables to zero; functions stay.
        variables: of the network at hand, with these zeros, what is left being moved to make up
            for them.
    """

    compression: Compression
    variables: PyTree


def sparse(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch] | None,
    sparsity: float,
    *,
    loss: Callable[[PyTree, Batch], jax.Array] | None = None,
    score: Score | None = None,
    scope: Scope = "global",
    pattern: Pattern | None = None,
    protect: Sequence[str] = (),
    include: Sequence[str] = (),
    most: int = 64,
    examples: int = 1024,
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
    graph: Graph | None = None,
    key: jax.Array | None = None,
) -> Sparse:
    """Set the kernel weights to zero that a network misses least, at once; no labels.

    By default |w|, of all kernels together, says how many weights each kernel keeps, and
    `jc.sparse.reconstruct` which, and moves them: E|x^T (M - M')|^2 of each kernel is made small,
    with x what it is given. A `score` decides alone instead: w <- w where s(w) is among the
    (1 - sparsity) n largest of the n weights that compete, else 0. Kernels are what the graph sees
    contracted and nothing else: no biases, scales, statistics or embeddings. ResNet-20 on CIFAR-10
    at 80 % zeros, BatchNorm re-estimated: 84.6 %, by |w| alone 79.2
    (`benchmarks.calibrated_masks`). Re-estimate BatchNorm afterwards.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the trained network.
        batches: an iterable of batches, see `recipes.prune`. The first is looked at for its
            shapes, and scores that need gradients average these over up to `most`. None if there
            is a `graph`: |w| decides alone then.
        sparsity: fraction of the kernels' weights that goes, in [0, 1).
        loss: `loss(variables, batch) -> scalar`, for scores that need gradients.
        score: None for the above; `jc.sparse.magnitude`, `gradient_times_weight`, `random`, or
            another one.
        scope: "global", "erk" or "uniform", how the sparsity spreads over kernels.
        pattern: which weights go together, single ones by default; `jc.sparse.NofM(2, 4)` wants
            "uniform". By blocks |w| decides alone.
        protect: patterns of leaf paths that stay whole.
        include: patterns of leaves to prune though they are no kernels.
        most: batches that gradients are averaged over.
        examples: how many are looked at to reconstruct, which takes rows^2 numbers a kernel.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        mask: `mask(batch) -> [examples, length]`, nonzero where a position of a sequence is no
            padding: what dots are given elsewhere does not count. None counts all.
        graph: of the network.
        key: of random scores.

    Returns:
        The compression and its variables.

    Raises:
        ValueError: if the sparsity, scope, pattern or a leaf is refused by `make_masks`, a loss is
            missing, or there is neither a batch nor a graph.
        TypeError: if batches is one batch.

    Example:
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"] + variables["b"])
        >>> variables = {"a": jnp.array([[1.0, -2.0], [0.5, 4.0]]), "b": jnp.ones(2)}
        >>> result = sparse(apply, variables, [jnp.ones((3, 2))], 0.5)
        >>> (result.variables["a"] != 0).tolist()
        [[False, False], [True, True]]
        >>> jnp.allclose(
        ...     jnp.ones(2) @ result.variables["a"], jnp.array([1.5, 2.0]), atol=0.05
        ... ).item()
        True
        >>> masked = sparse(apply, variables, [jnp.ones((3, 2))], 0.5, score=magnitude)
        >>> masked.variables["a"].tolist()
        [[1.0, 0.0], [0.0, 4.0]]
    """
    require(sparsity=real(sparsity, least=0, below=1), most=integer(most))
    require(examples=integer(examples))
    _check(batches, graph, score, loss)
    gradients, seen = None, None
    if batches is not None:
        first, every = opened(batches)
        graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
        if score is None and (pattern in (None, Block()) or isinstance(pattern, NofM)):
            seen = gather(every, examples)
        elif score is not None and score.needs_gradient and loss is not None:
            check_scalar(loss, variables, first)
            gradients = _gradients(loss, variables, itertools.islice(every, most))
    masks = make_masks(
        variables,
        sparsity,
        score=magnitude if score is None else score,
        scope=scope,
        pattern=pattern,
        protect=protect,
        gradients=gradients,
        key=key,
        graph=graph,
        include=include,
    )
    if seen is None or graph is None:
        small = masked(variables, masks)
    else:
        looked = [Seen.of(batch, inputs, mask) for batch in cut(seen, SIZE)]
        masks, small = _rebuilt(apply, variables, graph, masks, looked, pattern)
    return Sparse(sparsify(variables, masks, pattern=pattern, graph=graph), small)


def _rebuilt(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    graph: Graph,
    masks: Mapping[str, jax.Array],
    looked: Sequence[Seen],
    pattern: Pattern | None,
) -> tuple[dict[str, jax.Array], PyTree]:
    """Choose the weights of each kernel anew, as many as its mask keeps, and move them."""
    forms = forms_by_inputs(graph, masks)
    if not forms:
        return dict(masks), masked(variables, masks)
    covariances = covariances_of_seen(graph, apply, variables, looked, forms)
    zeros = {path: 1 - float(np.mean(np.asarray(masks[path]), dtype=np.float64)) for path in forms}
    grouped = pattern if isinstance(pattern, NofM) else None
    chosen, moved = reconstruct(graph, variables, covariances, zeros, pattern=grouped)
    together = {**masks, **chosen}
    return together, masked(moved, together)


def _check(batches: Any, graph: Graph | None, score: Score | None, loss: Any) -> None:
    """Raise unless kernels can be told, and gradients where the score needs them."""
    reads_loss = score is not None and score.needs_gradient
    if batches is None and (graph is None or reads_loss):
        raise ValueError(
            "kernels are known by a graph, and gradients by data, but batches and graph are "
            f"{(batches, graph)}; pass batches, whose first one tells the shapes"
        )
    if reads_loss and loss is None:
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

    gradient, total, count = compiled(jax.grad(of_leaves)), None, 0
    for batch in batches:
        gradients = jax.tree.map(widened, gradient(weights, batch))
        total = gradients if total is None else jax.tree.map(jnp.add, total, gradients)
        count += 1
    return jax.tree.map(lambda leaf: leaf / count, total)
