"""Importances as settings: frozen records whose defaults are the best that was measured.

Each is a function `(problem, budget, key) -> {group: float[width]}` for `prune.select`; any other
function of that kind does as well. Figures in docstrings: ResNet-56 on CIFAR-10 at half of its
FLOPs, BatchNorm re-estimated, no fine-tuning (`benchmarks.importance`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Function
from jaxcompress.arguments import integer, require
from jaxcompress.backend import fast_convolutions
from jaxcompress.graph import Budget, streams
from jaxcompress.prune import importance
from jaxcompress.prune.learned import learn_gates
from jaxcompress.prune.scores import Scores
from jaxcompress.recipes.problem import Problem

__all__ = ["Fisher", "Importance", "Learned", "Magnitude", "Meta", "Random", "Taylor"]

Importance: TypeAlias = Callable[[Problem, Budget, jax.Array], Mapping[str, Any]]


@dataclass(frozen=True)
class Magnitude:
    """L2 norms of the kernels: no data. 82.8 %.

    Attributes:
        order: 1 for L1.
    """

    order: int = 2

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(order=integer(self.order, least=1, most=2))

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Scores:
        """Score the channels of the groups that may be pruned."""
        del budget, key
        scores = importance.magnitude(problem.graph, problem.variables, order=self.order)
        return _of_groups(scores, problem)


@dataclass(frozen=True)
class Random:
    """At random: the baseline of every comparison. 64.6 %."""

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Scores:
        """Score the channels of the groups that may be pruned."""
        del budget
        return _of_groups(importance.random(problem.graph, key), problem)


@dataclass(frozen=True)
class Taylor:
    """Absolute mean gradients, per FLOP. 83.8 %; 71.0 if they are not divided by it.

    Attributes:
        batches: how many.
        examples: of each; absolute values are taken per batch, so that small ones would add noise,
            not signal.
    """

    batches: int = 16
    examples: int = 128

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(batches=integer(self.batches), examples=integer(self.examples))

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Scores:
        """Score the channels of the groups that may be pruned."""
        del budget
        loss = problem.by_labels()
        drawn = problem.batches(key, self.batches, self.examples)
        scores = importance.taylor(problem.graph, loss, problem.variables, drawn)
        return _of_groups(scores, problem)


@dataclass(frozen=True)
class Meta:
    """Gradients through one training step on other examples, per FLOP. 80.7 %.

    Attributes:
        episodes: how many.
        examples: of the step, and of the gradient.
    """

    episodes: int = 32
    examples: int = 32

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(episodes=integer(self.episodes), examples=integer(self.examples))

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Scores:
        """Score the channels of the groups that may be pruned."""
        del budget
        loss = problem.by_labels()
        query = problem.batches(key, self.episodes, self.examples)
        support = problem.batches(jax.random.fold_in(key, 1), self.episodes, self.examples)
        one_step = jax.tree.map(lambda leaf: leaf[:, None], support)
        graph, variables = problem.graph, problem.variables
        return importance.meta(graph, loss, variables, one_step, query, groups=problem.groups)


@dataclass(frozen=True)
class Fisher:
    """Squared gradients of single examples at random masks, per FLOP ** 1.5. 86.3 %.

    Attributes:
        rounds: masks.
        examples: of each.
        gentle: range of the keep probability of residual streams, which bear less.
    """

    rounds: int = 32
    examples: int = 32
    gentle: tuple[float, float] = (0.75, 1.0)

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(rounds=integer(self.rounds), examples=integer(self.examples))

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Scores:
        """Score the channels of the groups that may be pruned."""
        del budget
        gentle = {g: self.gentle for g in streams(problem.graph) if g in problem.groups}
        loss, drawn = problem.by_loss(problem.batches(key, self.rounds, self.examples))
        return importance.fisher(
            problem.graph,
            loss,
            problem.variables,
            drawn,
            key=key,
            keep_of=gentle,
            groups=problem.groups,
        )


def _fast(step: Function) -> Function:
    return jax.jit(fast_convolutions(step))


@dataclass(frozen=True)
class Learned:
    """Gates learned by steps at hard masks from the network's own answers: the default. 89.2 %.

    Attributes:
        start: raw scores to start from.
        steps: of the learning.
        examples: of each. 64 cost 0.8 points, 192 gain nothing.
        compiled: makes the program of one step, which is called `steps` times: whoever wraps it
            sees how far the learning is.
    """

    start: Importance = Fisher()
    steps: int = 120
    examples: int = 128
    compiled: Callable[[Function], Function] = _fast

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(steps=integer(self.steps), examples=integer(self.examples))

    def __call__(self, problem: Problem, budget: Budget, key: jax.Array) -> Mapping[str, jax.Array]:
        """Score the channels of the groups that may be pruned, for this budget."""
        scores, query = jax.random.split(key)
        raw = self.start(problem, budget, scores)
        start = {name: jnp.asarray(value) for name, value in raw.items()}
        loss, drawn = problem.by_answers(problem.batches(query, self.steps, self.examples))
        graph, variables = problem.graph, problem.variables
        return learn_gates(graph, loss, variables, start, budget, drawn, compiled=self.compiled)


def _of_groups(scores: Scores, problem: Problem) -> Scores:
    return replace(scores, arrays={name: scores[name] for name in problem.groups})
