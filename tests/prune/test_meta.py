"""Law 6 for meta-gradients: they equal finite differences, through inner steps of any optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.prune.importance.inner_steps import adapt
from jaxcompress.prune.importance.meta_gradients import meta
from tests.toys.convolution import conv

WIDTHS = {"conv": 4, "hidden": 5}


def logits(variables: PyTree, images: jax.Array) -> jax.Array:
    """A convolution, batch-statistics BatchNorm, pooling and two dense layers, all smooth."""
    h = conv(images, variables["conv"])
    mean, var = h.mean((0, 1, 2)), h.var((0, 1, 2))
    h = (h - mean) * jax.lax.rsqrt(var + 1e-3) * variables["scale"] + variables["bias"]
    h = jnp.tanh(h).reshape(len(images), -1)
    return jnp.tanh(h @ variables["hidden"]) @ variables["out"]


def loss(variables: PyTree, batch: Batch) -> jax.Array:
    outputs = logits(variables, batch["image"])
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"]).mean()


def draw_batches(seed: int, *leading: int) -> dict[str, jax.Array]:
    images = np.random.default_rng(seed).normal(size=(*leading, 6, 4, 4, 2))
    images = images.astype(jnp.result_type(float))
    labels = np.broadcast_to(np.array([0, 1, 2, 0, 1, 2], np.int32), (*leading, 6))
    return jax.device_put({"image": images, "label": labels})


def draw(dtype: Any = np.float32) -> dict[str, jax.Array]:
    normal = np.random.default_rng(0).normal
    variables = {
        "conv": normal(size=(3, 3, 2, 4)) / 3,
        "scale": 1 + normal(size=4) / 4,
        "bias": normal(size=4) / 4,
        "hidden": normal(size=(64, 5)) / 8,
        "out": normal(size=(5, 3)),
    }
    return jax.device_put({name: leaf.astype(dtype) for name, leaf in variables.items()})


def entry(batches: PyTree, *index: int) -> Any:
    """Return one batch of many, without a program for it."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], batches)


@pytest.fixture(scope="module")
def graph() -> jc.Graph:
    return jc.trace(logits, draw(), jnp.ones((6, 4, 4, 2)))


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [
        (optax.sgd(0.5), 1),
        (optax.sgd(0.3, momentum=0.9), 3),
        (optax.adam(0.05, eps_root=1e-8), 3),
    ],
    ids=["sgd-1", "momentum-3", "adam-3"],
)
def test_meta_gradient_is_finite_difference(
    graph: jc.Graph, optimizer: optax.GradientTransformation, steps: int
) -> None:
    with jax.enable_x64(True):
        variables = draw(np.float64)
        support, query = draw_batches(1, 1, steps), draw_batches(2, 1)
        gates = {"conv[3]": np.linspace(0.5, 1.2, 4), "hidden[1]": np.linspace(1.1, 0.6, 5)}
        scores = meta(graph, loss, variables, support, query, optimizer=optimizer, gates=gates)
        gated = jc.gated(graph, loss)

        @jax.jit
        def value(gates: Mapping[str, jax.Array]) -> jax.Array:
            adapted, _ = adapt(gated, variables, gates, entry(support, 0), optimizer)
            return gated(adapted, gates, entry(query, 0))

        for name, score in scores.items():
            for channel, step in enumerate(2e-6 * np.eye(len(score))):
                above, below = (value({**gates, name: gates[name] + by}) for by in (step, -step))
                slope = float(above - below) / 4e-6
                np.testing.assert_allclose(score[channel], abs(slope), rtol=1e-5, atol=1e-8)


def test_steps_are_those_of_the_optimizer(graph: jc.Graph) -> None:
    """The inner loop by hand, with optax alone."""
    variables, optimizer = draw(), optax.adam(0.05)
    support = draw_batches(1, 3)
    gated, gates = jc.gated(graph, loss), {"conv[3]": np.linspace(0.5, 1.2, 4, dtype=np.float32)}
    adapted, losses = jax.jit(lambda v: adapt(gated, v, gates, support, optimizer))(variables)

    @jax.jit
    def by_hand(variables: PyTree, state: PyTree, batch: Batch) -> Any:
        value, gradient = jax.value_and_grad(gated)(variables, gates, batch)
        updates, state = optimizer.update(gradient, state, variables)
        return value, optax.apply_updates(variables, updates), state

    state = jax.jit(optimizer.init)(variables)
    for step, loss_before in enumerate(np.asarray(losses)):
        value, variables, state = by_hand(variables, state, entry(support, step))
        np.testing.assert_allclose(loss_before, value, rtol=1e-5)
    for path, leaf in variables.items():
        np.testing.assert_allclose(adapted[path], leaf, rtol=1e-4, atol=1e-5)


def test_reverse_over_reverse_gives_the_same(graph: jc.Graph) -> None:
    """Forward over reverse relies on symmetry; plain nested reverse mode does not."""
    with jax.enable_x64(True):
        variables, gated = draw(np.float64), jc.gated(graph, loss)
        support, query = draw_batches(1, 1, 2), draw_batches(2, 1)

        def value(gates: Mapping[str, jax.Array]) -> jax.Array:
            adapted = variables
            for step in range(2):
                gradient = jax.grad(gated)(adapted, gates, entry(support, 0, step))
                adapted = jax.tree.map(lambda leaf, g: leaf - 0.3 * g, adapted, gradient)
            return gated(adapted, gates, entry(query, 0))

        expected = jax.jit(jax.grad(value))({"hidden[1]": np.ones(5)})["hidden[1]"]
        scores = meta(
            graph, loss, variables, support, query, optimizer=optax.sgd(0.3), groups=["hidden[1]"]
        )
        np.testing.assert_allclose(scores["hidden[1]"], abs(expected), rtol=1e-10)


def test_first_order_is_taylor_after_the_steps(graph: jc.Graph) -> None:
    variables = draw()
    support, query = draw_batches(1, 1, 2), draw_batches(2, 1)
    optimizer = optax.sgd(0.3)
    first, second = (
        meta(graph, loss, variables, support, query, optimizer=optimizer, order=order)
        for order in (1, 2)
    )
    gates, gated = jc.prune.ones(graph), jc.gated(graph, loss)
    inner = entry(support, 0)
    adapted, _ = jax.jit(lambda v: adapt(gated, v, gates, inner, optimizer))(variables)
    expected = jc.importance.taylor(graph, loss, adapted, query)
    for name, score in first.items():
        np.testing.assert_allclose(score, expected[name], rtol=1e-3, atol=1e-6)
        assert not np.allclose(second[name], score, rtol=1e-2)


def test_episodes_are_averaged_one_compile_vmapped_or_not(graph: jc.Graph) -> None:
    variables = draw()
    support, query = draw_batches(1, 3, 1), draw_batches(2, 3)
    traces = []

    def counted(params: PyTree, batch: Batch) -> jax.Array:
        traces.append(1)
        return loss(params, batch)

    scores = meta(graph, counted, variables, support, query, square=True)
    once = len(traces)
    together = meta(graph, loss, variables, support, query, square=True, together=3)
    single = [
        meta(
            graph,
            counted,
            variables,
            *jax.tree.map(lambda leaf, e=e: np.asarray(leaf)[e : e + 1], (support, query)),
        )
        for e in range(3)
    ]
    assert len(traces) <= 4 * once  # not more for three episodes than for one
    for name, score in scores.items():
        mean = np.mean([np.square(one[name]) for one in single], axis=0)
        np.testing.assert_allclose(score, mean, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(score, together[name], rtol=1e-4, atol=1e-9)


def test_a_further_step_takes_no_further_activations() -> None:
    """Through another inner step, memory grows by less than what a gradient needs."""

    def apply(variables: PyTree, images: jax.Array) -> jax.Array:
        for name in ("a", "b", "c"):
            images = jnp.tanh(conv(images, variables[name]))
        return jnp.square(images).mean()

    normal = np.random.default_rng(0).normal
    variables = {name: normal(size=(3, 3, 4, 4)).astype(np.float32) for name in "abc"}
    images = normal(size=(64, 16, 16, 4)).astype(np.float32)
    graph = jc.trace(apply, variables, images[:1])
    gated, gates = jc.gated(graph, apply), jc.prune.ones(graph)

    def bytes_of(steps: int) -> int:
        def episode(gates: Mapping[str, jax.Array], support: jax.Array) -> jax.Array:
            adapted, _ = adapt(gated, variables, gates, support, optax.sgd(0.1))
            return gated(adapted, gates, images)

        support = jnp.broadcast_to(images, (steps, *images.shape))
        return _temporary_bytes(jax.grad(episode), gates, support)

    plain = _temporary_bytes(jax.grad(apply), variables, images)
    assert bytes_of(3) - bytes_of(2) < plain


def _temporary_bytes(function: Function, *arguments: PyTree) -> int:
    memory: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes


def episodes(**change: Any) -> dict[str, Any]:
    support, query = draw_batches(1, 2, 1), draw_batches(2, 2)
    return {"support": support, "query": query, **change}


NAN = episodes()["support"]
NAN = {**NAN, "image": np.where(np.arange(2).reshape(2, 1, 1, 1, 1, 1), np.nan, NAN["image"])}
ONE_CLASS = episodes()["query"]
ONE_CLASS = {**ONE_CLASS, "label": np.where([[0], [1]], 2, ONE_CLASS["label"])}
EMPTY = jax.tree.map(lambda leaf: np.asarray(leaf)[:, :0], ONE_CLASS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": EMPTY}, ValueError, "at least one example, but query/image has shape"),
        ({"query": ONE_CLASS}, ValueError, r"those of episodes \[1\] hold one"),
        ({"query": draw_batches(2, 3)}, ValueError, "'support': 2, 'query': 3"),
        (
            {"support": NAN, "order": 1},
            FloatingPointError,
            "episode 1 that of inner step 0 of 1 is nan",
        ),
        ({"loss": lambda v, b: logits(v, b["image"])}, ValueError, r"returns float32\[6,3\]"),
        ({"groups": ["nope"]}, ValueError, "'nope'"),
        ({"order": 3}, ValueError, "order must be a whole number of 1 to 2"),
        ({"trainable": lambda path, leaf: False}, ValueError, "none of .*conv"),
        ({"optimizer": optax.sgd(np.inf), "order": 1}, FloatingPointError, "0 that of the query"),
    ],
)
def test_errors(
    graph: jc.Graph, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = episodes() | {"loss": loss} | change
    given_loss, support, query = (arguments.pop(name) for name in ("loss", "support", "query"))
    with pytest.raises(error, match=message):
        meta(graph, given_loss, draw(), support, query, **arguments)
