"""The importances of this library that are compared: functions (task, budget, key) -> keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import jaxcompress as jc
from benchmarks.importance_task import Task
from jaxcompress import importance
from jaxcompress.importance.fisher import fisher, streams
from jaxcompress.importance.meta import meta
from jaxcompress.search import per_cost, per_group
from jaxcompress.search.candidates import local_search
from jaxcompress.search.iterative import iterative
from jaxcompress.search.learn import learn_gates

__all__ = ["METHODS", "QUICK", "Task"]

Keep = dict[str, np.ndarray]
Method = Callable[[Task, jc.Budget, jax.Array], Keep]

ROUNDS, IMAGES = 32, 32
LEARN_STEPS, LEARN_IMAGES = 30, 64


def _chosen(task: Task, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: scores[name] for name in task.groups}


def _select(task: Task, scores: Mapping[str, Any], budget: jc.Budget, power: float = 0.0) -> Keep:
    weighed = per_cost(task.graph, _chosen(task, scores), power=power)
    return jc.select(task.graph, weighed, budget)


def _random(task: Task, budget: jc.Budget, key: jax.Array) -> Keep:
    return _select(task, importance.uniform(task.graph, key), budget)


def _magnitude(
    task: Task, budget: jc.Budget, key: jax.Array, *, order: int, normalise: bool = True
) -> Keep:
    scores = importance.magnitude(task.graph, task.variables, order=order)
    return _select(task, per_group(scores) if normalise else scores, budget)


def _taylor(task: Task, budget: jc.Budget, key: jax.Array, *, power: float) -> Keep:
    batches = task.batches(key, ROUNDS, IMAGES)
    scores = importance.taylor(task.graph, task.loss, task.variables, batches)
    return _select(task, scores, budget, power)


def _fisher_scores(
    task: Task, key: jax.Array, gates: Any = None, batches: Any = None, masked: bool = True
) -> dict[str, jax.Array]:
    keep_of = {name: (0.75, 1.0) for name in streams(task.graph) if name in task.groups}
    return fisher(
        task.graph,
        task.loss,
        task.variables,
        task.batches(key, ROUNDS, IMAGES) if batches is None else batches,
        key,
        keep=(0.5, 1.0) if masked else (1.0, 1.0),
        keep_of=keep_of if masked else None,
        groups=task.groups,
        gates=gates,
    )


def _fisher(task: Task, budget: jc.Budget, key: jax.Array, *, masked: bool = True) -> Keep:
    return _select(task, _fisher_scores(task, key, masked=masked), budget, 1.5)


def _iterative_fisher(task: Task, budget: jc.Budget, key: jax.Array) -> Keep:
    batches = task.batches(key, ROUNDS, IMAGES)

    def score(gates: Any, number: jax.Array) -> dict[str, Any]:
        own = _fisher_scores(task, jax.random.fold_in(key, number), gates, batches)
        return per_cost(task.graph, own, power=1.5)

    return iterative(task.graph, score, budget, rounds=5)


def _meta(task: Task, budget: jc.Budget, key: jax.Array, *, order: int, steps: int) -> Keep:
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
    return _select(task, scores, budget, 1.0)


def _learned_scores(
    task: Task,
    budget: jc.Budget,
    key: jax.Array,
    *,
    steps: int = 0,
    order: int = 2,
    rate: float = 0.01,
) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    support = task.batches(keys[2], LEARN_STEPS, steps, LEARN_IMAGES) if steps else None
    return learn_gates(
        task.graph,
        task.loss,
        task.variables,
        _fisher_scores(task, keys[0]),
        budget,
        task.batches(keys[1], LEARN_STEPS, LEARN_IMAGES),
        support,
        inner=optax.sgd(rate),
        order=order,
    )


def _learned(task: Task, budget: jc.Budget, key: jax.Array, **options: Any) -> Keep:
    return _select(task, _learned_scores(task, budget, key, **options), budget)


def _searched(task: Task, budget: jc.Budget, key: jax.Array) -> Keep:
    scores = _learned_scores(task, budget, key)
    batch = jax.tree.map(lambda leaf: leaf[0], task.batches(jax.random.fold_in(key, 9), 1, 512))
    found = local_search(
        task.graph, task.loss, task.variables, scores, budget, batch, key, candidates=16, rounds=8
    )
    return _select(task, found.scores, budget)


METHODS: dict[str, Method] = {
    "random": _random,
    "l1": partial(_magnitude, order=1),
    "l2": partial(_magnitude, order=2),
    "l2_not_normalised": partial(_magnitude, order=2, normalise=False),
    "taylor": partial(_taylor, power=0.0),
    "taylor_per_flop": partial(_taylor, power=1.0),
    "fisher_at_one": partial(_fisher, masked=False),
    "fisher": _fisher,
    "fisher_iterative": _iterative_fisher,
    "meta_first_order": partial(_meta, order=1, steps=1),
    "meta": partial(_meta, order=2, steps=1),
    "learned": _learned,
    "learned_inner_first": partial(_learned, steps=1, order=1),
    "learned_inner": partial(_learned, steps=1, order=2),
    "learned_searched": _searched,
}

QUICK = ("l2", "fisher", "learned")
