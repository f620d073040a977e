"""The ways to choose channels: (task, budget, key) -> what stays, and the weights to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcompress as jc
from benchmarks.adapting.settings import Way
from benchmarks.importance.methods import METHODS, Keep, fisher_scores, learned
from benchmarks.importance.task import Task
from experiments.common import score
from jaxcompress import training
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.graph import Trainable
from jaxcompress.knowledge.losses import kd
from jaxcompress.prune.learned.hard_masks import straight_through
from jaxcompress.prune.learned.learner import learn
from jaxcompress.prune.learned.optimizer import gate_optimizer

__all__ = ["WAYS", "Chosen"]

IMAGES, INNER_RATE, RATE, MOMENTUM = 128, 0.05, 0.01, 0.9


class Chosen(NamedTuple):
    """What a way found.

    Attributes:
        keep: which channels stay.
        variables: of the whole network, from which recovery starts.
    """

    keep: Keep
    variables: PyTree


def _named(name: Any, task: Task, budget: jc.Budget, key: jax.Array) -> Chosen:
    """Choose as `benchmarks.importance` does."""
    return Chosen(METHODS[name](task, key)(budget), task.variables)


def _is_batch_norm(path: str, leaf: Array) -> bool:
    return path.startswith("params/") and leaf.ndim == 1 and not _is_head(path, leaf)


def _is_head(path: str, leaf: Array) -> bool:
    return path.startswith("params/classifier/")


def _adapted(
    updates: int, trainable: Trainable, task: Task, budget: jc.Budget, key: jax.Array
) -> Chosen:
    """Learn gates through three inner steps of a few leaves, as constants (first order)."""
    inner = optax.sgd(INNER_RATE)
    choose = learned(task, key, updates=updates, steps=3, order=1, inner=inner, trainable=trainable)
    return Chosen(choose(budget), task.variables)


def _along(updates: int, kept: bool, task: Task, budget: jc.Budget, key: jax.Array) -> Chosen:
    """Learn gates while all weights are trained at the mask of the moment."""
    keys = jax.random.split(key, 2)
    loss = score.kept_answers(task.train_apply, score.LEARN_TEMPERATURE)
    pair = learn(task.graph, loss, budget, steps=updates, optimizer=gate_optimizer(updates))
    follow, tx = _following(task, budget, updates)
    update = jax.jit(fast_convolutions(pair.update))
    state = pair.init(fisher_scores(task, keys[0]))
    weights = training.init_state(task.variables, tx)
    queries = task.with_logits(task.batches(keys[1], updates, IMAGES))
    for number in range(updates):
        query = jax.tree.map(lambda leaf, number=number: leaf[number], queries)
        state, _ = update(state, weights.variables, query)
        weights = follow(weights, pair.scores(state), (number + 1) / updates, query)
    keep = jc.select(task.graph, pair.scores(state), budget)
    return Chosen(keep, weights.variables if kept else task.variables)


def _following(
    task: Task, budget: jc.Budget, updates: int
) -> tuple[Callable[..., training.TrainState], optax.GradientTransformation]:
    """Make a step of the weights at the mask that scores give at some part of the way."""
    gated = jc.gated(task.graph, task.train_apply)
    tx = optax.sgd(optax.cosine_decay_schedule(RATE, updates), MOMENTUM)
    absolute = budget.of(task.graph)

    def step(state: training.TrainState, scores: PyTree, way: Array, batch: Batch) -> Any:
        # The target falls over the first half of the updates, as that of `learn` does.
        part = jnp.minimum(1.0, 2 * way)
        gates = straight_through(task.graph.cost, scores, absolute, part)

        def loss(variables: Array, batch: Batch, _: jax.Array) -> Any:
            logits, new_state = gated(variables, gates, batch["image"])
            distance = kd(logits, batch["logits"], score.LEARN_TEMPERATURE)
            return distance.mean(), (new_state, {})

        return training.train_step(loss, tx)(state, batch, jax.random.key(0))[0]

    return jax.jit(fast_convolutions(step)), tx


WAYS: Mapping[Way, Callable[[Task, jc.Budget, jax.Array], Chosen]] = MappingProxyType(
    {
        "fisher": partial(_named, "fisher"),
        "learned": partial(_named, "learned"),
        "learned_60": partial(_named, "learned_60"),
        "batch_norm": partial(_adapted, 30, _is_batch_norm),
        "head": partial(_adapted, 60, _is_head),
        "along": partial(_along, 40, False),
        "along_kept": partial(_along, 40, True),
    }
)
