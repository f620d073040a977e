"""Iterative selection: nested removals, exact budgets, one compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.prune.importance.masked_fisher import fisher
from jaxcompress.prune.iteration import iterative, iterative_scores

Network: TypeAlias = tuple[Function, PyTree, jax.Array, jc.Graph]


@pytest.fixture(scope="module")
def network() -> Network:
    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ variables["a"])
        return jnp.tanh(h @ variables["b"]) @ variables["out"]

    shapes = {"a": (3, 16), "b": (16, 12), "out": (12, 2)}
    keys = jax.random.split(jax.random.key(0), 4)
    variables = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    x = jax.random.normal(keys[3], (3, 5, 3))
    return apply, variables, x, jc.trace(apply, variables, x[0])


def test_rounds_remove_more_and_more_and_compile_once(network: Network) -> None:
    apply, variables, x, graph = network
    traces, counts, seen = [], [], []

    def loss(params: PyTree, batch: Batch) -> jax.Array:
        traces.append(1)
        return jnp.square(apply(params, batch)).mean()

    def score(gates: Mapping[str, jax.Array], number: int) -> Mapping[str, Array]:
        counts.append(len(traces))
        seen.append({n: np.array(g) for n, g in gates.items()})
        key = jax.random.fold_in(jax.random.key(0), number)
        return fisher(graph, loss, variables, x, key=key, gates=gates)

    keep = iterative(graph, score, jc.Budget(flops=0.4), rounds=4)
    assert counts[0] == 0 and counts[1] == counts[-1] == len(traces)
    assert all(gate.all() for gate in seen[0].values())
    costs = [graph.cost.flops(graph.cost.widths(gates)) / graph.flops for gates in seen]
    for number, (cost, target) in enumerate(zip(costs, 0.4 ** (np.arange(4) / 4), strict=True)):
        assert target - 0.1 < cost <= target + 1e-9, number
    for before, after in zip(seen, seen[1:], strict=False):
        assert all((after[name] <= before[name]).all() for name in before)
    assert graph.cost.flops(graph.cost.widths(keep)) <= 0.4 * graph.flops


def test_one_round_is_select(network: Network) -> None:
    graph = network[3]
    random = np.random.default_rng(0)
    scores = {name: random.random(g.width).astype(np.float32) for name, g in graph.groups.items()}
    budget = jc.Budget(params=0.5)
    keep = iterative(graph, lambda gates, number: scores, budget, rounds=1)
    for name, mask in jc.select(graph, scores, budget).items():
        np.testing.assert_array_equal(keep[name], mask)


def test_scores_are_the_order_of_removal(network: Network) -> None:
    graph, kept = network[3], []

    def score(gates: Mapping[str, jax.Array], number: int) -> Mapping[str, Array]:
        kept.append({name: np.asarray(gate) > 0 for name, gate in gates.items()})
        random = np.random.default_rng(number)
        return {name: random.random(g.width) for name, g in graph.groups.items()}

    budget = jc.Budget(flops=0.4)
    scores = iterative_scores(graph, score, budget, rounds=4, multiple_of=1)
    last = iterative(graph, score, budget, rounds=4)
    stages = [*kept[1:4], last]
    flat = np.concatenate([scores[name] for name in graph.groups])
    for stage in stages[:3]:
        stays = np.concatenate([stage[name] for name in graph.groups])
        assert flat[stays].min() > flat[~stays].max()
    again = jc.select(graph, scores, budget)
    agree = np.mean([(again[name] == last[name]).mean() for name in again])
    assert agree > 0.9  # but for what fills the budget up


def test_errors(network: Network) -> None:
    graph = network[3]
    with pytest.raises(ValueError, match="rounds must be .* at least 1"):
        iterative(graph, lambda gates, number: gates, jc.Budget(flops=0.5), rounds=0)
    with pytest.raises(ValueError, match=r"must not be negative, but those of \['a\[1\]'\]"):
        negative = lambda gates, number: {"a[1]": -jnp.ones(16)}  # noqa: E731
        iterative_scores(graph, negative, jc.Budget(flops=0.5))
    with pytest.raises(ValueError, match="NaN has no order"):
        nan = lambda gates, number: {"a[1]": jnp.full(16, jnp.nan)}  # noqa: E731
        iterative(graph, nan, jc.Budget(flops=0.5))
