"""Learned gates: a few steps of gradient descent on what decides which channels are kept.

The scores (`gate_scores`) have one offset per group and one per channel. Each step masks the
network to exactly the budget, and the query loss's gradient with respect to the gates (through
inner optimizer steps, if any) moves the offsets straight through the mask. An init/update pair, as
optax has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.graph import Graph, Trainable
from jaxcompress.graph.budget import Budget
from jaxcompress.per_device import AxisName, slope
from jaxcompress.prune.gating import gated
from jaxcompress.prune.importance.inner_steps import adapt
from jaxcompress.prune.learned.hard_masks import straight_through
from jaxcompress.prune.learned.optimizer import gate_optimizer
from jaxcompress.prune.learned.scores import Learned, log_costs, log_scores, offset_scores

__all__ = ["Learn", "LearnState", "learn"]


class LearnState(NamedTuple):
    """All that a step of the learning changes.

    Attributes:
        learned: a, alpha and u, see `Learned`.
        log_scores: `{group: float[width]}`, log F: constant.
        total: `{group: float[width]}`, the sum of s over the steps of the second half.
        opt_state: of the outer optimizer.
        step: `int32`, the number of steps taken.
    """

    learned: Learned
    log_scores: dict[str, jax.Array]
    total: dict[str, jax.Array]
    opt_state: optax.OptState
    step: jax.Array


class Update(Protocol):
    """Type of `Learn.update`."""

    def __call__(
        self, state: LearnState, variables: PyTree, query: Batch, support: Batch = None
    ) -> tuple[LearnState, jax.Array]:
        """Take a step; see `Learn`."""
        ...


class Learn(NamedTuple):
    """What `learn` makes: pure functions, to be used under jit.

    Attributes:
        init: `init(scores) -> state`; scores `{group: float[width]}` are not negative.
        update: `update(state, variables, query, support=None) -> (state, losses)`, one step on a
            query batch, through inner steps on `support [steps, batch, ...]`; losses
            `float[inner steps + 1]` are those before each inner step, and the query's.
        scores: `scores(state) -> {group: float[width]}`, s averaged over the second half of the
            steps, for `select`; before it, the current s.
    """

    init: Callable[[Mapping[str, Any]], LearnState]
    update: Update
    scores: Callable[[LearnState], dict[str, jax.Array]]


def learn(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    budget: Budget,
    *,
    steps: int = 60,
    alpha: float = 1.5,
    optimizer: optax.GradientTransformation | None = None,
    inner: optax.GradientTransformation | None = None,
    order: int = 2,
    temperature: float = 0.5,
    trainable: Trainable | None = None,
    axis_name: AxisName = None,
) -> Learn:
    """Make the init/update pair that learns which groups bear the budget.

    Each step keeps the channels of highest s whose cost fits the target, which falls linearly from
    the whole network to the budget over the first half of the steps. The loss is taken at this hard
    mask, its gradient as if gates were sigmoid((s - tau) / temperature) with tau following s so
    that the soft cost does not change (`straight_through`).

    Ours, a reconstruction (see `prune.importance.meta`).

    A query loss without labels is the divergence from the whole network's own answers
    (`knowledge.losses.kd`, its logits stored in the batches); `benchmarks.importance` compares it
    with labels (rows "learned", "learned_labels"), temperature 4 with 1 ("learned_temperature_1":
    at 1, a trained network's answers to its training images say little more than the labels), and
    updates with and without inner steps (`support`) at equal number ("learned_60*"): a step of
    first order gains about a point on a ResNet-20, none on a ResNet-56, and one of second order
    gains nothing for three times the time, so that without `support` is the way to begin.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; where there is BatchNorm, in training mode.
        budget: of any kinds; fractions are of `graph`. c is what one channel saves of each
            ceiling's kind as a fraction of the whole network, averaged.
        steps: how many updates are planned.
        alpha: where the learned power of the cost starts.
        optimizer: of `Learned`, default `gate_optimizer(steps)`.
        inner: of the variables, in inner steps, default `optax.sgd(0.01)`.
        order: of the gradient through the inner steps, 1 or 2.
        temperature: of the sigmoid, in units of log score.
        trainable: what the inner optimizer changes, default `default_trainable`.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch of
            `update` is split;
            see `jaxcompress.per_device`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> pair = learn(graph, loss, Budget(flops=0.5), steps=2)
        >>> state = pair.init({"a[1]": jnp.arange(4.0)})
        >>> state, losses = pair.update(state, variables, jnp.ones((5, 3)))
        >>> int(state.step), losses.shape
        (1, (1,))
    """
    require(
        steps=integer(steps),
        alpha=real(alpha),
        order=integer(order, least=0, most=2),
        temperature=real(temperature, above=0),
    )
    outer = optimizer or gate_optimizer(steps)
    inner = inner or optax.sgd(0.01)
    absolute, gated_loss, costs = budget.of(graph), gated(graph, loss), log_costs(graph, budget)
    options: dict[str, Any] = {"order": order, "trainable": trainable, "axis_name": axis_name}

    def init(scores: Mapping[str, Array]) -> LearnState:
        start = log_scores(graph, scores)
        zeros = jax.tree.map(jnp.zeros_like, start)
        power = jnp.asarray(alpha, jnp.result_type(float))
        learned = Learned({name: jnp.zeros(()) for name in start}, power, zeros)
        return LearnState(learned, start, zeros, outer.init(learned), jnp.int32(0))

    def update(
        state: LearnState, variables: PyTree, query: Batch, support: Batch = None
    ) -> tuple[LearnState, jax.Array]:
        part = jnp.minimum(1.0, 2 * (state.step + 1) / steps)

        def objective(learned: Learned, *rest: PyTree) -> tuple[jax.Array, jax.Array]:
            at, query, support = rest
            learned_scores = offset_scores(learned, state.log_scores, costs)
            gates = straight_through(graph.cost, learned_scores, absolute, part, temperature)
            losses = jnp.zeros(0)
            if support is not None:
                at, losses = adapt(gated_loss, at, gates, support, inner, **options)
            return gated_loss(at, gates, query), losses

        gradient_of = slope(objective, axis_name)
        (value, losses), gradient = gradient_of(state.learned, variables, query, support)
        changes, opt_state = outer.update(gradient, state.opt_state, state.learned)
        learned = optax.apply_updates(state.learned, changes)
        counts = state.step >= steps // 2
        new = offset_scores(learned, state.log_scores, costs)
        total = jax.tree.map(lambda t, s: t + counts * s, state.total, new)
        new_state = LearnState(learned, state.log_scores, total, opt_state, state.step + 1)
        return new_state, jnp.append(losses, value)

    def scores(state: LearnState) -> dict[str, jax.Array]:
        count = state.step - steps // 2
        now = offset_scores(state.learned, state.log_scores, costs)
        mean = lambda t, s: jnp.where(count > 0, t / jnp.maximum(count, 1), s)  # noqa: E731
        return jax.tree.map(mean, state.total, now)

    return Learn(init, update, scores)
