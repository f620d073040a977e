"""Ways to score channels, by name: what an experiment's `--importance` chooses from."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

import jaxcompress as jc
from experiments.common import data
from experiments.common.measure import augmented
from experiments.common.teaching import stored_logits
from jaxcompress import recipes
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.losses import cross_entropy, kd
from jaxcompress.recipes.distances import TEMPERATURE
from jaxcompress.recipes.problem import ask_of

__all__ = [
    "Importance",
    "Source",
    "kept_answers",
    "problem_of",
    "score",
    "source_of",
    "with_logits",
]

Importance = Literal["learned", "meta", "fisher", "taylor", "magnitude", "random"]

IMPORTANCES: dict[Importance, recipes.Importance] = {
    "learned": recipes.Learned(),
    "meta": recipes.Meta(),
    "fisher": recipes.Fisher(),
    "taylor": recipes.Taylor(),
    "magnitude": recipes.Magnitude(),
    "random": recipes.Random(),
}
ROUNDS, IMAGES = recipes.Fisher().rounds, recipes.Fisher().examples
LEARN_STEPS, LEARN_IMAGES = recipes.Learned().steps, recipes.Learned().examples
LEARN_TEMPERATURE = TEMPERATURE
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
    loss: Callable[[PyTree, Batch], jax.Array]
    variables: PyTree
    batches: Callable[[jax.Array, int, int], Any]
    groups: list[str]
    apply: Callable[[PyTree, Batch], jax.Array] | None = None
    train_apply: Callable[..., tuple[jax.Array, Any]] | None = None


def source_of(
    graph: jc.Graph,
    groups: list[str],
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    variables: PyTree,
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

    def loss(params: Array, batch: Batch) -> jax.Array:
        logits, _ = train_apply(params, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    return Source(graph, loss, variables, batches, groups, apply, train_apply)


def score(name: Importance, source: Source, budget: jc.Budget, key: jax.Array) -> dict[str, Json]:
    """Score the channels of the groups that may be pruned, ready for `jc.select`.

    `learned` starts from `fisher` and knows costs itself; gradients (`fisher`, `meta`, `taylor`)
    are weighed by what a channel costs; norms are divided by their group's mean.
    """
    scores = IMPORTANCES[name](problem_of(source), budget, key)
    scores = {group: scores[group] for group in source.groups}
    if name == "learned":
        return scores
    if name == "magnitude":
        return dict(jc.prune.per_group(scores))
    return dict(jc.prune.per_cost(source.graph, scores, power=COST_POWER.get(name, 0.0)))


def problem_of(source: Source) -> recipes.Problem:
    """Return what recipes compute scores from; `learned` asks where both functions are given."""
    ask, functions = None, (source.apply, source.train_apply)
    if functions[0] is not None and functions[1] is not None:
        distance = partial(kd, temperature=LEARN_TEMPERATURE)
        image = operator.itemgetter("image")
        ask = ask_of((functions[0], functions[1]), source.variables, image, distance)
    groups = tuple(source.groups)
    return recipes.Problem(source.graph, source.variables, groups, source.batches, source.loss, ask)


def with_logits(apply: Function, variables: PyTree, batches: Any) -> dict[str, Json]:
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

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        logits, _ = train_apply(variables, batch["image"])
        return kd(logits, batch["logits"], temperature).mean()

    return loss
