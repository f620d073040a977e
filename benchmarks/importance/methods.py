"""The importances of this library that are compared: functions (task, key) -> budget -> keep.

What does not depend on the budget is computed once, by the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from benchmarks.importance.settings import Ours
from benchmarks.importance.task import Task
from experiments.common import score
from jaxcompress.annotations import Array, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.graph import Trainable, streams
from jaxcompress.prune import importance, per_cost, per_group
from jaxcompress.prune.candidates.local import local_search
from jaxcompress.prune.importance.masked_fisher import fisher
from jaxcompress.prune.importance.meta_gradients import meta
from jaxcompress.prune.iteration import iterative
from jaxcompress.prune.learned.loop import learn_gates
from jaxcompress.prune.learned.optimizer import gate_optimizer

__all__ = ["METHODS", "Keep", "Method", "fisher_scores", "learned"]

Keep = dict[str, np.ndarray]
Method = Callable[[Task, jax.Array], Callable[[jc.Budget], Keep]]

# What the experiments do is what is measured.
ROUNDS, IMAGES = score.ROUNDS, score.IMAGES


def _choose(
    task: Task, scores: Mapping[str, Array], power: float = 0.0
) -> Callable[[jc.Budget], Keep]:
    """Select the best scores per FLOP ** power, of the groups that may be pruned."""
    group_scores = {name: np.asarray(scores[name]) for name in task.groups}
    return partial(jc.select, task.graph, per_cost(task.graph, group_scores, power=power))


def _random(task: Task, key: jax.Array) -> Callable[[jc.Budget], Keep]:
    return _choose(task, importance.random(task.graph, key))


def _magnitude(
    task: Task, key: jax.Array, *, order: int, normalise: bool = True
) -> Callable[[jc.Budget], Keep]:
    scores = importance.magnitude(task.graph, task.variables, order=order)
    return _choose(task, per_group(scores) if normalise else scores)


def _taylor(task: Task, key: jax.Array, *, power: float) -> Callable[[jc.Budget], Keep]:
    batches = task.batches(key, ROUNDS, IMAGES)
    return _choose(task, importance.taylor(task.graph, task.loss, task.variables, batches), power)


def fisher_scores(
    task: Task, key: jax.Array, gates: PyTree = None, batches: Any = None, masked: bool = True
) -> Mapping[str, Array]:
    """Score by masked Fisher, as the experiments do."""
    keep_of = {name: (0.75, 1.0) for name in streams(task.graph) if name in task.groups}
    return fisher(
        task.graph,
        task.loss,
        task.variables,
        task.batches(key, ROUNDS, IMAGES) if batches is None else batches,
        key=key,
        keep=(0.5, 1.0) if masked else (1.0, 1.0),
        keep_of=keep_of if masked else None,
        groups=task.groups,
        gates=gates,
    )


def _fisher(task: Task, key: jax.Array, *, masked: bool = True) -> Callable[[jc.Budget], Keep]:
    return _choose(task, fisher_scores(task, key, masked=masked), 1.5)


def _iterative_fisher(task: Task, key: jax.Array) -> Callable[[jc.Budget], Keep]:
    batches = task.batches(key, ROUNDS, IMAGES)

    def score(gates: PyTree, number: int) -> Mapping[str, Array]:
        scores = fisher_scores(task, jax.random.fold_in(key, number), gates, batches)
        return per_cost(task.graph, scores, power=1.5)

    return partial(iterative, task.graph, score, rounds=5)


def _meta(task: Task, key: jax.Array, *, order: int, steps: int) -> Callable[[jc.Budget], Keep]:
    first, second = jax.random.split(key)
    scores = meta(
        task.graph,
        task.loss,
        task.variables,
        task.batches(first, ROUNDS, steps, IMAGES),
        task.batches(second, ROUNDS, IMAGES),
        groups=task.groups,
        order=order,
    )
    return _choose(task, scores, 1.0)


def learned(
    task: Task,
    key: jax.Array,
    *,
    updates: int = score.LEARN_STEPS,
    images: int = score.LEARN_IMAGES,
    temperature: float | None = score.LEARN_TEMPERATURE,
    channel_rate: float = 0.2,
    steps: int = 0,
    order: int = 2,
    inner: optax.GradientTransformation = optax.sgd(0.01),  # noqa: B008
    trainable: Trainable | None = None,
) -> Callable[[jc.Budget], Keep]:
    """Learn gates from masked Fisher; `steps` of an inner optimizer are taken before the query.

    The loss is the distance to the dense network's answers; without a temperature, to the labels.
    """
    keys = jax.random.split(key, 3)
    start = fisher_scores(task, keys[0])
    query = task.with_logits(task.batches(keys[1], updates, images))
    support = None
    if steps:
        support = task.with_logits(task.batches(keys[2], updates, steps, images))

    loss = task.loss
    if temperature is not None:
        loss = score.kept_answers(task.train_apply, temperature)

    def choose(budget: jc.Budget) -> Keep:
        scores = learn_gates(
            task.graph,
            loss,
            task.variables,
            start,
            budget,
            query,
            support,
            compiled=lambda step: jax.jit(fast_convolutions(step)),
            optimizer=gate_optimizer(updates, channel_rate=channel_rate),
            inner=inner,
            order=order,
            trainable=trainable,
        )
        return jc.select(task.graph, scores, budget)

    return choose


def _layer_rates(rate: float) -> optax.GradientTransformation:
    """Gradient descent whose kernels each move by `rate` of their norm, whatever the gradient's."""
    kernels = lambda leaves: jax.tree.map(lambda leaf: leaf.ndim > 1, leaves)  # noqa: E731
    return optax.chain(optax.masked(optax.scale_by_trust_ratio(), kernels), optax.scale(-rate))


def _local(task: Task, key: jax.Array) -> Callable[[jc.Budget], Keep]:
    """Perturb masked Fisher's scores: 10 rounds of 32 candidates on one batch of 256 images."""
    keys = jax.random.split(key, 3)
    scores = per_cost(task.graph, fisher_scores(task, keys[0]), power=1.5)
    start = {name: jnp.log(scores[name] + 1e-12) for name in task.groups}
    query = task.with_logits(task.batches(keys[1], 1, 256))
    batch = jax.tree.map(lambda leaf: leaf[0], query)
    loss = score.kept_answers(task.train_apply, score.LEARN_TEMPERATURE)

    def choose(budget: jc.Budget) -> Keep:
        result = local_search(
            task.graph, loss, task.variables, start, budget, batch, key=keys[2], candidates=32
        )
        return jc.select(task.graph, result.scores, budget)

    return choose


METHODS: Mapping[Ours, Method] = MappingProxyType(
    {
        "random": _random,
        "l1": partial(_magnitude, order=1),
        "l2": partial(_magnitude, order=2),
        "l2_not_normalised": partial(_magnitude, order=2, normalise=False),
        "taylor": partial(_taylor, power=0.0),
        "taylor_per_flop": partial(_taylor, power=1.0),
        "fisher_at_one": partial(_fisher, masked=False),
        "fisher": _fisher,
        "fisher_iterative": _iterative_fisher,
        "fisher_local": _local,
        "meta_first_order": partial(_meta, order=1, steps=1),
        "meta": partial(_meta, order=2, steps=1),
        "learned": learned,
        "learned_temperature_1": partial(learned, temperature=1.0),
        "learned_temperature_16": partial(learned, temperature=16.0),
        "learned_64": partial(learned, temperature=1.0, images=64),
        "learned_192": partial(learned, temperature=1.0, images=192),
        "learned_labels": partial(learned, temperature=None),
        "learned_groups": partial(learned, temperature=None, channel_rate=0.0, updates=30),
        "learned_60": partial(learned, updates=60),
        "learned_60_inner_first": partial(learned, updates=60, steps=1, order=1),
        "learned_60_inner": partial(learned, updates=60, steps=1, order=2),
        "learned_60_inner_layers": partial(learned, updates=60, steps=1, inner=_layer_rates(0.01)),
        "learned_60_inner_rate_0.1": partial(learned, updates=60, steps=1, inner=optax.sgd(0.1)),
        "learned_60_inner_3": partial(learned, updates=60, steps=3, order=2),
    }
)
