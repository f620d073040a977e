"""The ways to meet a budget: each makes a compression and its variables, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxcompress as jc
from experiments.transformer.sentences import pairs_apply
from experiments.transformer.settings import Scoring, Way
from experiments.transformer.task import Task, inputs_of
from experiments.transformer.torch_pruning import torch_pruned
from jaxcompress import recipes
from jaxcompress.annotations import Batch, PyTree

__all__ = ["WAYS", "Made", "Problem", "looked_at"]

MASK = itemgetter("mask")
SIZE = 64
"""Sequences of a batch that is looked at."""


class Problem(NamedTuple):
    """What a way is given.

    Attributes:
        task: the network, and what it is for.
        batches: sequences to look at.
        kind: of cost.
        share: of it that may be left.
        scoring: how channels are scored.
        key: of everything random.
    """

    task: Task
    batches: list[Batch]
    kind: str
    share: float
    scoring: Scoring
    key: jax.Array

    @property
    def budget(self) -> jc.Budget:
        """The ceiling."""
        return jc.Budget(**{self.kind: self.share})


class Made(NamedTuple):
    """A compressed network."""

    compression: jc.Compression
    variables: PyTree


def looked_at(task: Task, count: int) -> list[Batch]:
    """Return batches of the sequences that decisions are made from."""
    total = min(count, len(task.sequences["tokens"]))
    size = min(SIZE, total)
    parts = [slice(start, start + size) for start in range(0, total - size + 1, size)]
    return [{name: array[part] for name, array in task.sequences.items()} for part in parts]


def _gates(problem: Problem) -> recipes.Learned:
    rounds, steps, examples = dataclasses.astuple(problem.scoring)
    return recipes.Learned(recipes.Fisher(rounds, examples), steps, examples)


def _pruned(problem: Problem, **settings: Any) -> Made:
    task = problem.task
    compression = recipes.prune(
        task.apply,
        task.variables,
        problem.batches,
        problem.budget,
        key=problem.key,
        distance=task.distance,
        inputs=inputs_of,
        mask=task.mask,
        **settings,
    )
    return Made(compression, compression.variables(task.variables))


def whole(problem: Problem) -> Made:
    """Leave the network as it is."""
    return Made(jc.chain(), problem.task.variables)


def magnitude(problem: Problem) -> Made:
    """Remove the heads and hidden channels whose kernels are smallest."""
    return _pruned(problem, importance=recipes.Magnitude())


def prune(problem: Problem) -> Made:
    """Remove the heads and hidden channels that learned gates miss least."""
    return _pruned(problem, importance=_gates(problem))


def activations(problem: Problem) -> Made:
    """Remove the heads and hidden channels that are smallest on the sequences looked at."""
    task = problem.task
    batches = [inputs_of(batch) for batch in problem.batches]
    one = {name: array[:1] for name, array in batches[0].items()}
    graph = jc.trace(task.apply, task.variables, one)
    scores = jc.importance.activation_norms(
        graph, task.apply, task.variables, batches, counted=MASK
    )
    # Sizes of one network's activations compare across groups better than shares of their means.
    return _pruned(problem, importance=dataclasses.replace(scores, unit="comparable"))


def residual(problem: Problem) -> Made:
    """The same, and channels of the residual stream."""
    task = problem.task
    if task.labels is not None:
        return _pruned(problem, importance=_gates(problem), groups="all")
    # Embeddings are outputs, whose width stays; cosines of pairs leave it free.
    pairs = [
        {
            "first": inputs_of(batch),
            "second": {name: np.roll(array, 1, 0) for name, array in inputs_of(batch).items()},
        }
        for batch in problem.batches
    ]
    compression = recipes.prune(
        pairs_apply(task.apply),
        task.variables,
        pairs,
        problem.budget,
        key=problem.key,
        distance="values",
        importance=_gates(problem),
        groups="all",
    )
    return Made(compression, compression.variables(task.variables))


def low_rank(problem: Problem) -> Made:
    """Replace kernels by two factors."""
    task = problem.task
    result = recipes.low_rank(
        task.apply,
        task.variables,
        problem.batches,
        problem.budget,
        key=problem.key,
        distance=task.distance,
        inputs=inputs_of,
        mask=MASK,
    )
    return Made(result.compression, result.variables)


def both(problem: Problem) -> Made:
    """Go half of the way by removing, the other half by factors."""
    half = problem.share**0.5
    first = prune(problem._replace(share=half))
    task = problem.task
    narrow = task._replace(apply=first.compression.function(task.apply), variables=first.variables)
    second = low_rank(problem._replace(task=narrow, share=problem.share / half))
    return Made(jc.chain(first.compression, second.compression), second.variables)


def sparse(problem: Problem) -> Made:
    """Set single weights to zero: the share of the kernels that may be left."""
    task = problem.task
    sparsity = 1 - problem.share
    result = recipes.sparse(
        task.apply, task.variables, problem.batches, sparsity, inputs=inputs_of, mask=MASK
    )
    return Made(result.compression, result.variables)


def torch_pruning(problem: Problem) -> Made:
    """Remove the heads and hidden channels that Torch-Pruning would, of a published encoder."""
    task = problem.task
    if task.weights_dir is None:
        raise ValueError("torch_pruning reads published weights; take the preset minilm")
    one = {name: array[:1] for name, array in inputs_of(problem.batches[0]).items()}
    graph = jc.trace(task.apply, task.variables, one)
    keep = torch_pruned(task.weights_dir, graph, problem.share)
    compression = jc.shrink(graph, keep)
    return Made(compression, compression.variables(task.variables))


WAYS: Mapping[Way, Callable[[Problem], Made]] = MappingProxyType(
    {
        "whole": whole,
        "magnitude": magnitude,
        "prune": prune,
        "activations": activations,
        "residual": residual,
        "low_rank": low_rank,
        "both": both,
        "sparse": sparse,
        "torch_pruning": torch_pruning,
    }
)
