"""Ways to score channels, by name: what an experiment's `--importance` chooses from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

import jaxcompress as jc
from experiments.common import data
from experiments.common.measure import augmented
from experiments.common.teaching import stored_logits
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.losses import cross_entropy, kd
from jaxcompress.prune import importance

__all__ = ["Importance", "Source", "kept_answers", "score", "source_of", "with_logits"]

Importance = Literal["learned", "meta", "fisher", "taylor", "magnitude", "random"]

ROUNDS, IMAGES = 32, 32
LEARN_STEPS, LEARN_IMAGES, LEARN_TEMPERATURE = 120, 128, 4.0
TAYLOR_BATCHES, TAYLOR_IMAGES = 16, 128
COST_POWER = {"meta": 1.0, "fisher": 1.5, "taylor": 1.0}


class Source(NamedTuple):
    """What scores are computed from.

    Attributes:
        graph: of the network.
        loss: `loss(variables, batch) -> scalar`, in training mode.
        variables: the network's variables.
        batches: `batches(key, number, size) -> batch` with leading axes `[number, size]`, drawn
            from augmented training images.
        groups: the groups that may be pruned.
        apply: the network in evaluation mode, `apply(variables, images) -> logits`.
        train_apply: in training mode, `train_apply(variables, images) -> (logits, state)`. With
            both, `learned` gates are to keep the network's own answers instead of the labels; the
            rows "learned" and "learned_labels" of `benchmarks.importance` compare the two.
    """

    graph: jc.Graph
    loss: Callable[[Any, Any], jax.Array]
    variables: Any
    batches: Callable[[jax.Array, int, int], Any]
    groups: list[str]
    apply: Callable[[Any, Any], jax.Array] | None = None
    train_apply: Callable[..., tuple[jax.Array, Any]] | None = None


def source_of(
    graph: jc.Graph,
    groups: list[str],
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    variables: Any,
    dataset: data.Dataset,
    settings: Views | None,
) -> Source:
    """Make the source of a trained network and its training images, labels by cross-entropy.

    Args:
        graph: of the network.
        groups: the groups that may be pruned.
        functions: `apply` and `train_apply` of `Source`.
        variables: the network's variables.
        dataset: its training images.
        settings: of the augmentation; None for the images as they are.
    """
    apply, train_apply = functions

    def batches(key: jax.Array, number: int, size: int) -> Any:
        return augmented(dataset, key, count=number * size, batch_size=size, settings=settings)

    def loss(own: Any, batch: Any) -> jax.Array:
        logits, _ = train_apply(own, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    return Source(graph, loss, variables, batches, groups, apply, train_apply)


def score(name: Importance, source: Source, budget: jc.Budget, key: jax.Array) -> dict[str, Any]:
    """Score the channels of the groups that may be pruned, ready for `jc.select`.

    `learned` starts from `fisher` and knows costs itself; gradients (`fisher`, `meta`, `taylor`)
    are weighed by what a channel costs; norms are divided by their group's mean.
    """
    if name == "learned":
        return _learned(source, budget, key)
    scores = _scores(name, source, key)
    scores = {group: scores[group] for group in source.groups}
    if name == "magnitude":
        return jc.prune.per_group(scores)
    return jc.prune.per_cost(source.graph, scores, power=COST_POWER.get(name, 0.0))


def _scores(name: Importance, source: Source, key: jax.Array) -> Mapping[str, Any]:
    graph, variables = source.graph, source.variables
    if name == "random":
        return importance.random(graph, key)
    if name == "magnitude":
        return importance.magnitude(graph, variables)
    if name == "fisher":
        return _fisher(source, key)
    if name == "taylor":
        # Absolute values are taken per batch: small batches would add noise, not signal.
        large = source.batches(key, TAYLOR_BATCHES, TAYLOR_IMAGES)
        return importance.taylor(graph, source.loss, variables, large)
    query = source.batches(key, ROUNDS, IMAGES)
    support = source.batches(jax.random.fold_in(key, 1), ROUNDS, IMAGES)
    one_step = jax.tree.map(lambda leaf: leaf[:, None], support)
    return importance.meta(graph, source.loss, variables, one_step, query, groups=source.groups)


def _fisher(source: Source, key: jax.Array) -> dict[str, jax.Array]:
    """Masked Fisher; residual streams are masked more gently."""
    gentle = {g: (0.75, 1.0) for g in jc.graph.streams(source.graph) if g in source.groups}
    batches = source.batches(key, ROUNDS, IMAGES)
    return importance.fisher(
        source.graph,
        source.loss,
        source.variables,
        batches,
        key,
        keep_of=gentle,
        groups=source.groups,
    )


def _learned(source: Source, budget: jc.Budget, key: jax.Array) -> dict[str, jax.Array]:
    """Learned gates, started from masked Fisher."""
    scores, query = jax.random.split(key)
    start = {name: jnp.asarray(value) for name, value in _fisher(source, scores).items()}
    batches = source.batches(query, LEARN_STEPS, LEARN_IMAGES)
    loss = source.loss
    if source.apply is not None and source.train_apply is not None:
        batches = with_logits(source.apply, source.variables, batches)
        loss = kept_answers(source.train_apply, LEARN_TEMPERATURE)
    compiled = lambda step: jax.jit(fast_convolutions(step))  # noqa: E731
    return jc.prune.learned.learn_gates(
        source.graph, loss, source.variables, start, budget, batches, compiled=compiled
    )


def with_logits(apply: Callable[..., Any], variables: Any, batches: Any) -> dict[str, Any]:
    """Add a network's logits, in evaluation mode, to batches `[*leading, batch, ...]`."""
    images = batches["image"]
    flat = images.reshape(-1, *images.shape[-3:])
    logits = stored_logits(apply, variables, flat, batch_size=images.shape[-4])
    return {**batches, "logits": jnp.asarray(logits).reshape(*images.shape[:-3], -1)}


def kept_answers(
    train_apply: Callable[..., tuple[jax.Array, Any]], temperature: float
) -> Callable[..., jax.Array]:
    """Make the loss KD(logits, stored): the whole network's answers, `logits` of a batch, are kept.

    Args:
        train_apply: `train_apply(variables, images) -> (logits, state)`.
        temperature: of `kd`.
    """

    def loss(variables: Any, batch: Any) -> jax.Array:
        logits, _ = train_apply(variables, batch["image"])
        return kd(logits, batch["logits"], temperature).mean()

    return loss
