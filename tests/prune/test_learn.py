"""Learned gates: exact budgets, neutral gradients, and inner steps by finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.prune.importance.inner_steps import adapt
from jaxcompress.prune.learned.hard_masks import straight_through
from jaxcompress.prune.learned.learner import learn
from jaxcompress.prune.learned.loop import learn_gates
from jaxcompress.prune.learned.optimizer import gate_optimizer
from tests.toys.record import draw, rows

Network: TypeAlias = tuple[Function, PyTree, Batch, jc.Graph, Function]


@pytest.fixture(scope="module")
def network() -> Network:
    """Two hidden layers; the loss wants the outputs of the untouched network."""

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ variables["a"])
        return jnp.tanh(h @ variables["b"]) @ variables["out"]

    shapes = {"a": (3, 6), "b": (6, 8), "out": (8, 2)}
    variables, x = draw(0, shapes), rows(20, 4, 5, 3)
    target = jax.jit(apply)(variables, x)

    def loss(params: PyTree, batch: Batch) -> jax.Array:
        return jnp.square(apply(params, batch["x"]) - batch["target"]).mean()

    return apply, variables, {"x": x, "target": target}, jc.trace(apply, variables, x[0, 0]), loss


def start(graph: jc.Graph, seed: int = 0) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    return {
        name: jax.device_put(random.random(g.width).astype(jnp.result_type(float)))
        for name, g in graph.groups.items()
    }


def one(batches: Batch, *index: int | slice) -> Batch:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], batches)


@pytest.mark.parametrize(
    "budget", [jc.Budget(flops=0.5), jc.Budget(params=0.4, bytes=0.6)], ids=str
)
def test_masks_are_those_of_the_budget(network: Network, budget: jc.Budget) -> None:
    graph = network[3]
    scores, absolute = start(graph), budget.of(graph)
    gates, whole = jax.jit(
        lambda scores: [straight_through(graph.cost, scores, absolute, part) for part in (1.0, 0.0)]
    )(scores)
    expected = jc.select(graph, scores, budget, fill=False)
    for name, gate in gates.items():
        np.testing.assert_array_equal(gate, expected[name])
    assert all(np.asarray(gate).all() for gate in whole.values())


def test_gradient_is_soft_and_neutral(network: Network) -> None:
    """Gates move as sigmoids do, and their soft cost does not move at all."""
    graph = network[3]
    with jax.enable_x64(True):
        scores, budget = start(graph), jc.Budget(flops=0.5).of(graph)
        through = lambda trial: straight_through(graph.cost, trial, budget, temperature=0.3)  # noqa: E731
        gates, jacobian = _with_jacobian(through, scores)
        dense = np.array([float(gates[name].sum()) for name in graph.cost.names])
        costs = jax.jit(jax.grad(graph.cost.flops))(dense)
        for wrt, score in scores.items():
            pairs = zip(graph.cost.names, costs, strict=True)
            moved = sum(cost * jacobian[name][wrt].sum(0) for name, cost in pairs)
            np.testing.assert_allclose(moved, 0, atol=1e-10)
            assert (np.diagonal(jacobian[wrt][wrt]) > 0).all()
            assert score.shape == jacobian[wrt][wrt].shape[:1]


def _with_jacobian(function: Function, at: PyTree) -> PyTree:
    """Return a function's result and its Jacobian, in NumPy."""
    twice = lambda trial: (function(trial),) * 2  # noqa: E731
    jacobian, result = jax.jit(jax.jacobian(twice, has_aux=True))(at)
    return jax.tree.map(np.asarray, (result, jacobian))


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_first_update_follows_the_meta_gradient(network: Network, steps: int) -> None:
    """With SGD outside, the first change is the chain rule of finite differences in the gates."""
    _, variables, batches, graph, loss = network
    with jax.enable_x64(True):
        variables, batches = jax.tree.map(lambda a: a.astype(jnp.float64), (variables, batches))
        scores, budget, inner = start(graph), jc.Budget(flops=0.6), optax.sgd(0.2, momentum=0.9)
        pair = learn(graph, loss, budget, steps=1, alpha=0.0, optimizer=optax.sgd(1.0), inner=inner)
        support = one(batches, 1, slice(0, steps)) if steps else None
        query, state = one(batches, 0, 0), jax.jit(pair.init)(scores)
        new, losses = jax.jit(pair.update)(state, variables, query, support)
        assert losses.shape == (steps + 1,)

        gated, absolute = jc.gated(graph, loss), budget.of(graph)
        masks = lambda trial: straight_through(graph.cost, trial, absolute)  # noqa: E731
        at, jacobian = _with_jacobian(masks, state.log_scores)

        @jax.jit
        def value(gates: Mapping[str, jax.Array]) -> jax.Array:
            adapted = variables
            if support is not None:
                adapted, _ = adapt(gated, adapted, gates, support, inner)
            return gated(adapted, gates, query)

        slopes = {
            n: np.array([slope(value, at, n, i) for i in range(len(g))]) for n, g in at.items()
        }
        for name, offset in new.learned.offsets.items():
            expected = -sum(slopes[n] @ jacobian[n][name].sum(1) for n in at)
            np.testing.assert_allclose(offset, expected, rtol=1e-5, atol=1e-9)
            channels = -sum(slopes[n] @ jacobian[n][name] for n in at)
            np.testing.assert_allclose(new.learned.channels[name], channels, rtol=1e-5, atol=1e-9)


def slope(
    value: Function, gates: Mapping[str, np.ndarray], name: str, channel: int, by: float = 1e-5
) -> float:
    step = by * np.eye(len(gates[name]))[channel]
    up, down = (float(value({**gates, name: gates[name] + sign * step})) for sign in (1, -1))
    return (up - down) / (2 * by)


def test_learning_helps_and_feeds_select(network: Network) -> None:
    """Half of b does nothing, but the initial score would remove a: the offsets turn that round."""
    apply, variables, batches, graph, loss = network
    variables = {
        **variables,
        "out": variables["out"] * np.where(np.arange(8) < 4, 1, 0.01)[:, None],
    }
    batches = {**batches, "target": jax.jit(apply)(variables, batches["x"])}
    bad = {"a[1]": np.linspace(1, 2, 6), "b[1]": 20 * np.linspace(2, 1, 8)}
    budget, query = jc.Budget(flops=0.62), one(batches, slice(None), 0)
    outer = gate_optimizer(20, rate=0.5, channel_rate=0.0)
    learned = learn_gates(graph, loss, variables, bad, budget, query, alpha=1.0, optimizer=outer)

    value = jax.jit(jc.gated(graph, loss))

    def masked(scores: Mapping[str, Array]) -> float:
        keep = jc.select(graph, scores, budget)
        gates = {name: mask.astype(np.float32) for name, mask in keep.items()}
        assert graph.cost.flops(graph.cost.widths(keep)) <= 0.62 * graph.flops
        flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, leaf.shape[-1]), batches)
        return float(value(variables, gates, flat))

    assert masked(learned) < 0.1 * masked(bad)
    # Without channel offsets, the order within a group is that of the initial score.
    for name, score in learned.items():
        np.testing.assert_array_equal(np.argsort(score), np.argsort(bad[name]))


def test_channel_offsets_find_the_useless_channels(network: Network) -> None:
    """Every other channel of b does nothing, and the initial score does not know which."""
    apply, variables, batches, graph, loss = network
    variables = {
        **variables,
        "out": variables["out"] * np.where(np.arange(8) % 2, 1, 0.01)[:, None],
    }
    batches = {**batches, "target": jax.jit(apply)(variables, batches["x"])}
    blind, budget = {"b[1]": np.linspace(1, 1.1, 8)}, jc.Budget(params=0.75)
    query = one(batches, slice(None), 0)
    learned = learn_gates(graph, loss, variables, blind, budget, query)
    assert jc.select(graph, learned, budget)["b[1]"][1::2].all()
    assert not jc.select(graph, blind, budget)["b[1]"][1::2].all()


def test_scores_are_averaged_over_the_second_half(network: Network) -> None:
    _, variables, batches, graph, loss = network
    pair = learn(graph, loss, jc.Budget(flops=0.6), steps=4)
    state, update, scores = (
        pair.init(start(graph)),
        jax.jit(pair.update),
        jax.jit(pair.scores),
    )
    seen = []
    for step in range(4):
        state, _ = update(state, variables, one(batches, step, 0))
        logs = jax.tree.map(np.asarray, state.log_scores)
        seen.append({n: np.asarray(s) - logs[n] for n, s in scores(state).items()})
        if step < 2:
            now = seen[-1]
    assert not np.allclose(now["a[1]"], seen[2]["a[1]"])
    whole = learn_gates(
        graph, loss, variables, start(graph), jc.Budget(flops=0.6), one(batches, slice(4), 0)
    )
    for name, score in scores(state).items():
        np.testing.assert_allclose(score, whole[name], rtol=1e-5)


def test_errors(network: Network) -> None:
    _, variables, batches, graph, loss = network
    scores, budget, query = start(graph), jc.Budget(flops=0.5), one(batches, slice(4), 0)
    with pytest.raises(ValueError, match="not negative"):
        learn_gates(graph, loss, variables, {"a[1]": -np.ones(6)}, budget, query)
    with pytest.raises(ValueError, match="'nope'"):
        learn_gates(graph, loss, variables, {"nope": np.ones(6)}, budget, query)
    with pytest.raises(ValueError, match="at least one example"):
        learn_gates(graph, loss, variables, scores, budget, one(query, slice(None), slice(0)))
    with pytest.raises(ValueError, match=r"those of episodes \[1\] hold one"):
        labels = jnp.array([[0, 1, 0, 1, 1]]).repeat(4, 0).at[1].set(3)
        learn_gates(graph, loss, variables, scores, budget, {**query, "label": labels})
    with pytest.raises(ValueError, match=r"returns float32\[5,2\]"):
        learn_gates(graph, lambda v, b: b["target"], variables, scores, budget, query)
    with pytest.raises(FloatingPointError, match="episode 3 that of inner step 1 of 2"):
        support = jax.tree.map(lambda leaf: np.array(leaf[:4, :2]), batches)
        support["x"][3, 1, 0] = np.nan
        learn_gates(graph, loss, variables, scores, budget, query, support)
    with pytest.raises(FloatingPointError, match="episode 2 that of the query"):
        bad = {**query, "x": np.where(np.arange(4)[:, None, None] == 2, np.nan, query["x"])}
        learn_gates(graph, loss, variables, scores, budget, bad)
