"""The scores that are compared, each of all groups of a task that it can score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import jax
import numpy as np

import jaxcompress as jc
from benchmarks.transformer_scores.settings import Config
from benchmarks.transformer_scores.tasks import Task
from jaxcompress.annotations import Array
from jaxcompress.prune import importance
from jaxcompress.prune.scores import Scores
from jaxcompress.recipes.examples import draw
from jaxcompress.recipes.importances import Fisher
from jaxcompress.recipes.problem import Problem, ask_of

__all__ = ["all_scores", "of_branches"]

Named: TypeAlias = dict[str, Scores]


def all_scores(task: Task, config: Config, groups: tuple[str, ...]) -> Named:
    """Return the scores of the groups by name."""
    graph, variables = task.graph, task.variables
    magnitude = importance.magnitude(graph, variables)
    scales = importance.norm_scales(graph, variables)
    measured: Named = {"magnitude": magnitude, "norm_scales": scales}
    if set(groups) > set(scales):
        both = {**{name: magnitude[name] for name in groups}, **scales}
        measured["magnitude, norm_scales"] = replace(magnitude, arrays=both)
    measured["fisher"] = _fisher(task, config, groups)
    look = (graph, task.encoder, variables, task.batches)
    if any(not graph.groups[name].is_depth for name in groups):
        measured["activation_norms"] = importance.activation_norms(*look, counted=task.counted)
    measured["block_influence"] = importance.block_influence(*look, counted=task.counted)
    for seed in config.seeds:
        measured[f"random {seed}"] = importance.random(graph, jax.random.key(seed))
    return measured


def _fisher(task: Task, config: Config, groups: tuple[str, ...]) -> Scores:
    """Score as `recipes.prune` does without labels: by the distance from the network's answers."""
    ask = ask_of((task.apply, None), task.variables, _same, task.distance)
    drawn: Callable[..., Array] = partial(draw, task.examples)
    problem = Problem(task.graph, task.variables, groups, drawn, None, ask)
    fisher = Fisher(rounds=config.rounds, examples=16)
    return fisher(problem, jc.Budget(flops=1.0), jax.random.key(0))


def _same(inputs: Array) -> Array:
    return inputs


def of_branches(source: str, scores: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return what each branch is worth, at each of its channels.

    Fisher's scores add up: squared changes of the distance. Influence is of the branch already,
    and of random scores the first one stands for all.
    """
    worth = {}
    for name, score in scores.items():
        values = np.asarray(score, np.float64)
        worth[name] = np.full(len(values), values.sum() if source == "fisher" else values[0])
    return worth
