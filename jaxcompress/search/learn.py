"""Learned gates: a few steps of gradient descent on what decides which channels are kept.

s_c = log F_c - alpha log c_c + a_group, with F an initial score, c the cost of one channel, and one
offset `a` per group and `alpha` learned. Each step masks the network to exactly the budget, and the
query loss's gradient with respect to the gates (through inner optimizer steps, if any) moves `a`
and `alpha` straight through the mask. An init/update pair, as optax has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.graph import Graph, Trainable
from jaxcompress.importance.checks import check_batches, check_scalar
from jaxcompress.importance.inner import adapt, check_steps
from jaxcompress.search.budget import Budget
from jaxcompress.search.normalise import channel_costs
from jaxcompress.search.straight import straight_through
from jaxcompress.transforms import gated
from jaxcompress.transforms.check import check_widths

__all__ = ["Learn", "LearnState", "learn", "learn_gates"]


class LearnState(NamedTuple):
    """All that a step of the learning changes.

    Attributes:
        offsets: `{group: float}`, a.
        alpha: `float`, the power of the cost.
        log_scores: `{group: float[width]}`, log F: constant.
        total: `{group: float[width]}`, the sum of s over the steps of the second half.
        opt_state: of the outer optimizer.
        step: `int32`, the number of steps taken.
    """

    offsets: dict[str, jax.Array]
    alpha: jax.Array
    log_scores: dict[str, jax.Array]
    total: dict[str, jax.Array]
    opt_state: optax.OptState
    step: jax.Array


class Update(Protocol):
    """Type of `Learn.update`."""

    def __call__(
        self, state: LearnState, variables: Any, query: Any, support: Any = None
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
    loss: Callable[[Any, Any], jax.Array],
    budget: Budget,
    *,
    steps: int = 30,
    alpha: float = 1.5,
    optimizer: optax.GradientTransformation | None = None,
    inner: optax.GradientTransformation | None = None,
    order: int = 2,
    temperature: float = 0.5,
    trainable: Trainable | None = None,
) -> Learn:
    """Make the init/update pair that learns which groups bear the budget.

    Each step keeps the channels of highest s whose cost fits the target, which falls linearly from
    the whole network to the budget over the first half of the steps. The loss is taken at this hard
    mask, its gradient as if gates were sigmoid((s - tau) / temperature) with tau following s so
    that the soft cost does not change (`straight_through`).

    Ours, a reconstruction (see `importance.meta`).

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; where there is BatchNorm, in training mode.
        budget: of any kinds; fractions are of `graph`. c is what one channel saves of each
            ceiling's kind as a fraction of the whole network, averaged.
        steps: how many updates are planned.
        alpha: where the learned power of the cost starts.
        optimizer: of a and alpha, default `optax.adam(0.1, b1=0.8, b2=0.95)`.
        inner: of the variables, in inner steps, default `optax.sgd(0.01)`.
        order: of the gradient through the inner steps, 1 or 2.
        temperature: of the sigmoid, in units of log score.
        trainable: what the inner optimizer changes, default `default_trainable`.

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
    outer = optimizer or optax.adam(0.1, b1=0.8, b2=0.95)
    inner = inner or optax.sgd(0.01)
    absolute, gated_loss = budget.of(graph), gated(graph, loss)
    log_costs = {name: float(np.log(cost)) for name, cost in _relative_costs(graph, budget).items()}

    def current(offsets: Any, power: Any, log_scores: Any) -> dict[str, jax.Array]:
        return {
            name: own - power * log_costs[name] + offsets[name] for name, own in log_scores.items()
        }

    def init(scores: Mapping[str, Any]) -> LearnState:
        log_scores = _log_scores(graph, scores)
        offsets = {name: jnp.zeros(()) for name in log_scores}
        power = jnp.asarray(alpha, jnp.result_type(float))
        zeros = jax.tree.map(jnp.zeros_like, log_scores)
        return LearnState(
            offsets, power, log_scores, zeros, outer.init((offsets, power)), jnp.int32(0)
        )

    def update(
        state: LearnState, variables: Any, query: Any, support: Any = None
    ) -> tuple[LearnState, jax.Array]:
        part = jnp.minimum(1.0, 2 * (state.step + 1) / steps)

        def objective(learned: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
            own = current(*learned, state.log_scores)
            gates = straight_through(graph.cost, own, absolute, part, temperature)
            losses, at = jnp.zeros(0), variables
            if support is not None:
                at, losses = adapt(
                    gated_loss, at, gates, support, inner, order=order, trainable=trainable
                )
            value = gated_loss(at, gates, query)
            return value, jnp.append(losses, value)

        learned = (state.offsets, state.alpha)
        gradient, losses = jax.grad(objective, has_aux=True)(learned)
        changes, opt_state = outer.update(gradient, state.opt_state, learned)
        offsets, power = optax.apply_updates(learned, changes)
        counts = state.step >= steps // 2
        new = current(offsets, power, state.log_scores)
        total = jax.tree.map(lambda t, s: t + counts * s, state.total, new)
        moved = LearnState(offsets, power, state.log_scores, total, opt_state, state.step + 1)
        return moved, losses

    def scores(state: LearnState) -> dict[str, jax.Array]:
        count = state.step - steps // 2
        now = current(state.offsets, state.alpha, state.log_scores)
        mean = lambda t, s: jnp.where(count > 0, t / jnp.maximum(count, 1), s)  # noqa: E731
        return jax.tree.map(mean, state.total, now)

    return Learn(init, update, scores)


def learn_gates(
    graph: Graph,
    loss: Callable[[Any, Any], jax.Array],
    variables: Any,
    scores: Mapping[str, Any],
    budget: Budget,
    query: Any,
    support: Any = None,
    **options: Any,
) -> dict[str, jax.Array]:
    """Run `learn` over given batches, one step each, compiled once.

    Args:
        graph: of a function of the variables.
        loss: see `learn`.
        variables: pytree of arrays.
        scores: where to start, `{group: float[width]}`, not negative; masked `fisher` is best.
            Groups without scores stay whole.
        budget: see `learn`.
        query: pytree of arrays `[steps, batch, ...]`.
        support: pytree of arrays `[steps, inner steps, batch, ...]`, or None for no inner steps.
        **options: of `learn`, but `steps`.

    Returns:
        `{group: float[width]}` for `select`, at the same budget.

    Raises:
        ValueError: if a score is negative or not finite, a group unknown, the loss no scalar, or
            a batch empty.
        FloatingPointError: if a loss is not finite (its "episode" is the step of learning).

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> scores, query = {"a[1]": jnp.arange(4.0)}, jnp.ones((6, 5, 3))
        >>> learned = learn_gates(graph, loss, variables, scores, Budget(flops=0.5), query)
        >>> learned["a[1]"].shape
        (4,)
    """
    check_batches({"query": query}, leading=2)
    if support is not None:
        check_batches({"support": support}, leading=3)
    check_scalar(loss, variables, jax.tree.map(lambda leaf: leaf[0], query))
    steps = len(jax.tree.leaves(query)[0])
    pair = learn(graph, loss, budget, steps=steps, **options)

    update, state, losses = jax.jit(pair.update), pair.init(scores), []
    # A loop of the host: see `importance.rounds`.
    for step in range(steps):
        batch, inner = jax.tree.map(itemgetter(step), (query, support))
        state, own = update(state, variables, batch, inner)
        losses.append(own)
    check_steps(jnp.stack(losses))
    return pair.scores(state)


def _relative_costs(graph: Graph, budget: Budget) -> dict[str, float]:
    """Return what one channel of each group costs, as a fraction of the whole network."""
    kinds = list(budget.ceilings())
    dense = {kind: float(getattr(graph.cost, kind)(graph.cost.dense)) for kind in kinds}
    own = {kind: channel_costs(graph, kind) for kind in kinds}
    return {
        name: sum(own[kind][name] / dense[kind] for kind in kinds) / len(kinds)
        for name in graph.groups
    }


def _log_scores(graph: Graph, scores: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Return log F, with zeros far below the smallest score that is not 0."""
    check_widths(graph, scores, "scores", per_example=False)
    arrays = {name: jnp.asarray(score, jnp.result_type(float)) for name, score in scores.items()}
    if not any(isinstance(array, jax.core.Tracer) for array in arrays.values()):
        wrong = [n for n, a in arrays.items() if not (np.isfinite(a) & (np.asarray(a) >= 0)).all()]
        if wrong:
            raise ValueError(
                "learned gates start from the logarithm of scores, which must be finite and not "
                f"negative, but those of {wrong} are not; take exp of scores that are logarithms"
            )
    every = jnp.concatenate(list(arrays.values()))
    smallest = jnp.min(jnp.where(every > 0, every, jnp.inf))
    floor = jnp.where(jnp.isfinite(smallest), smallest * 1e-3, 1.0)
    return {name: jnp.log(jnp.maximum(array, floor)) for name, array in arrays.items()}
