"""Masked Fisher against one example at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.graph import streams
from jaxcompress.prune.importance.masked_fisher import fisher, random_masks

Network: TypeAlias = tuple[Function, PyTree, jax.Array, jc.Graph]


@pytest.fixture(scope="module")
def network() -> Network:
    """A residual stream of 6 channels and an inner width of 4."""

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ variables["stem"])
        h = h + jnp.tanh(h @ variables["a"]) @ variables["b"]
        return jnp.tanh(h) @ variables["out"]

    shapes = {"stem": (3, 6), "a": (6, 4), "b": (4, 6), "out": (6, 2)}
    keys = jax.random.split(jax.random.key(0), 5)
    variables = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    x = jax.random.normal(keys[4], (4, 5, 3))
    return apply, variables, x, jc.trace(apply, variables, x[0])


def test_is_the_mean_square_of_single_examples(network: Network) -> None:
    apply, variables, x, graph = network

    def loss(params: PyTree, batch: Batch) -> jax.Array:
        return jnp.square(apply(params, batch)).sum(-1).mean()

    key = jax.random.key(3)
    scores = fisher(graph, loss, variables, x, key=key)
    expected = {name: np.zeros(group.width) for name, group in graph.groups.items()}
    gradient = jax.jit(jax.grad(jc.gated(graph, loss), argnums=1))
    for number, batch in enumerate(x):
        masks = random_masks(graph, jax.random.fold_in(key, number))
        for example in batch:
            for name, slopes in gradient(variables, masks, example[None]).items():
                expected[name] += np.square(slopes) / 20
    for name, score in scores.items():
        np.testing.assert_allclose(score, expected[name], rtol=1e-4)


def test_given_gates_and_groups(network: Network) -> None:
    apply, variables, x, graph = network
    loss = lambda params, batch: jnp.square(apply(params, batch)).mean()  # noqa: E731
    traces = []

    @jax.jit
    def score(gates: Mapping[str, jax.Array]) -> Mapping[str, Array]:
        traces.append(1)
        return fisher(
            graph,
            loss,
            variables,
            x,
            key=jax.random.key(0),
            keep=(1, 1),
            groups=["a[1]"],
            gates=gates,
        )

    whole = {name: jnp.ones(group.width) for name, group in graph.groups.items()}
    (stream,) = streams(graph)
    some = {**whole, stream: whole[stream].at[2].set(0)}
    without = {**variables, "out": variables["out"].at[2].set(0), "a": variables["a"].at[2].set(0)}
    expected = fisher(graph, loss, without, x, key=jax.random.key(1), keep=(1, 1))
    assert list(score(whole)) == ["a[1]"]
    np.testing.assert_allclose(score(some)["a[1]"], expected["a[1]"], rtol=1e-4)
    assert not np.allclose(score(whole)["a[1]"], expected["a[1]"])
    assert len(traces) == 1


def test_masks_follow_their_ranges(network: Network) -> None:
    graph = network[3]
    (stream,) = streams(graph)
    draw = jax.vmap(lambda key: random_masks(graph, key, keep=(0.3, 0.5), keep_of={stream: (1, 1)}))
    masks = draw(jax.random.split(jax.random.key(0), 400))
    assert masks[stream].all()
    (inner,) = set(masks) - {stream}
    assert 0.35 < masks[inner].mean() < 0.5
    assert masks[inner].max(1).all()  # never all removed
    assert set(np.unique(masks[inner])) == {0, 1}


def test_errors(network: Network) -> None:
    apply, variables, x, graph = network
    loss = lambda params, batch: jnp.square(apply(params, batch)).mean()  # noqa: E731
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="0 < low <= high"):
        fisher(graph, loss, variables, x, key=key, keep=(0, 1))
    with pytest.raises(ValueError, match="'nope'"):
        fisher(graph, loss, variables, x, key=key, keep_of={"nope": (0.5, 1)})
    with pytest.raises(ValueError, match=r"returns float32\[5,2\]"):
        fisher(graph, apply, variables, x, key=key)
    with pytest.raises(ValueError, match="at least one example"):
        fisher(graph, loss, variables, x[:, :0], key=key)
