"""Local search: perturb the best scores, and keep what does better at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.compression.checks import check_widths
from jaxcompress.graph import Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.per_device import AxisName, per_device
from jaxcompress.prune.candidates.losses import candidate_losses
from jaxcompress.prune.comparable import comparable_scores
from jaxcompress.prune.selecting import threshold

__all__ = ["Found", "local_search"]


class Found(NamedTuple):
    """What `local_search` returns.

    Attributes:
        scores: `{group: float[width]}` of the best candidate, for `select` at the same budget.
        loss: the query loss of the best after each round, `float[rounds + 1]`; the first is that
            of the scores given.
    """

    scores: dict[str, jax.Array]
    loss: jax.Array


def local_search(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    scores: Mapping[str, Array],
    budget: Budget,
    batch: Batch,
    *,
    key: jax.Array,
    candidates: int = 64,
    rounds: int = 10,
    survivors: int = 4,
    group_noise: float = 0.3,
    channel_noise: float = 0.1,
    together: int | None = None,
    mesh: Mesh | None = None,
    axis_name: AxisName = None,
) -> Found:
    """Perturb the best scores, mask every candidate to the same budget, keep the best by loss.

    Each round draws s' = s + group_noise * n_group + channel_noise * n_channel, n normal, around
    the survivors in turn; these are the best of all seen. Noise counts in units of s, so scores
    should be logarithms, as those of `learn` are. All rounds are one program.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; where there is BatchNorm, in training mode.
        variables: pytree of arrays.
        scores: `{group: float[width]}`, where to start; raw `Scores` are made comparable.
        budget: fractions are of `graph`.
        batch: the query batch, one for all rounds, so that losses compare.
        key: of the noise.
        candidates: per round.
        rounds: how many.
        survivors: how many of the best to perturb.
        group_noise: standard deviation of a shift of all channels of a group.
        channel_noise: standard deviation for each channel alone.
        together: see `candidate_losses`.
        mesh: see `candidate_losses`.
        axis_name: see `candidate_losses`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ jnp.tanh(variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.arange(8.0).reshape(4, 2)}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: apply(variables, x).mean()
        >>> result = local_search(
        ...     graph,
        ...     loss,
        ...     variables,
        ...     {"a[1]": jnp.arange(4.0)},
        ...     Budget(flops=0.5),
        ...     jnp.ones((5, 3)),
        ...     key=jax.random.key(0),
        ...     candidates=8,
        ...     rounds=3,
        ...     channel_noise=2.0,
        ... )
        >>> bool(result.loss[-1] < result.loss[0])
        True
    """
    require(
        candidates=integer(candidates),
        rounds=integer(rounds, least=0),
        survivors=integer(survivors),
        group_noise=real(group_noise, least=0),
        channel_noise=real(channel_noise, least=0),
        together=integer(together, optional=True),
    )
    absolute = budget.of(graph)
    check_widths(graph, scores, "scores", per_example=False)
    scores = comparable_scores(graph.cost, scores, tuple(absolute.ceilings()))

    def losses(variables: PyTree, batch: Batch, stacked: dict[str, jax.Array]) -> jax.Array:
        gates = jax.vmap(lambda candidate: threshold(graph.cost, candidate, absolute))(stacked)
        options: dict[str, Any] = {"together": together, "mesh": mesh, "axis_name": axis_name}
        raw = candidate_losses(graph, loss, variables, gates, batch, **options)
        return jnp.where(jnp.isnan(raw), jnp.inf, raw)

    def step(
        data: tuple[Any, Any], state: tuple[Any, Any], key: jax.Array
    ) -> tuple[PyTree, PyTree]:
        parents, best = state
        chosen = {n: s[jnp.arange(candidates) % survivors] for n, s in parents.items()}
        new = _perturb(chosen, key, group_noise, channel_noise)
        every = {name: jnp.concatenate([parents[name], score]) for name, score in new.items()}
        values = jnp.concatenate([best, losses(*data, new)])
        order = jnp.argsort(values, stable=True)[:survivors]
        state = jax.tree.map(lambda score: score[order], every), values[order]
        return per_device(state, None, like=best), values[order[0]]

    @jax.jit
    def run(data: tuple[Any, Any], scores: Mapping[str, Array], key: jax.Array) -> Found:
        start = {n: jnp.asarray(s, jnp.result_type(float))[None] for n, s in scores.items()}
        first = losses(*data, start)
        copies = jax.tree.map(lambda score: jnp.repeat(score, survivors, axis=0), start)
        state = per_device((copies, jnp.repeat(first, survivors)), None, like=(first, scores))
        (parents, _), best = lax.scan(partial(step, data), state, jax.random.split(key, rounds))
        return Found({n: score[0] for n, score in parents.items()}, jnp.concatenate([first, best]))

    return run((variables, batch), dict(scores), key)


def _perturb(
    scores: Mapping[str, jax.Array], key: jax.Array, group: float, channel: float
) -> dict[str, jax.Array]:
    """Add noise to `{group: float[candidates, width]}`."""
    perturbed = {}
    for number, (name, score) in enumerate(scores.items()):
        first, second = jax.random.split(jax.random.fold_in(key, number))
        shift = group * jax.random.normal(first, (len(score), 1))
        perturbed[name] = score + shift + channel * jax.random.normal(second, score.shape)
    return perturbed
