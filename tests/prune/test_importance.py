"""Scores: against direct computation, and against removing each channel."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Function, PyTree
from jaxcompress.prune import importance

Network: TypeAlias = tuple[Function, PyTree, jax.Array, jc.Graph]


@pytest.fixture(scope="module")
def network() -> Network:
    """A convolution, flattened, and two dense layers."""

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jax.lax.conv_general_dilated(
            x, variables["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = jax.nn.relu(h + variables["bias"]).reshape(x.shape[0], -1)
        return jnp.tanh(h @ variables["hidden"]) @ variables["out"]

    keys = jax.random.split(jax.random.key(0), 5)
    variables = {
        "conv": jax.random.normal(keys[0], (3, 3, 2, 4)),
        "bias": jax.random.normal(keys[1], (4,)),
        "hidden": jax.random.normal(keys[2], (4 * 4 * 4, 6)) / 8,
        "out": jax.random.normal(keys[3], (6, 3)),
    }
    images = jax.random.normal(keys[4], (5, 4, 4, 2))
    return apply, variables, images, jc.trace(apply, variables, images)


def test_magnitude_is_the_norm_of_the_producers(network: Network) -> None:
    _, variables, _, graph = network
    scores = importance.magnitude(graph, variables, order=1)
    np.testing.assert_allclose(
        scores["conv[3]"], np.abs(variables["conv"]).sum((0, 1, 2)), rtol=1e-6
    )
    scores = importance.magnitude(graph, variables)
    np.testing.assert_allclose(
        scores["hidden[1]"], np.linalg.norm(variables["hidden"], axis=0), rtol=1e-6
    )


def test_coupled_magnitude_sums_over_producers_and_consumers(network: Network) -> None:
    _, variables, _, graph = network
    scores = importance.magnitude(graph, variables, coupled=True)
    consumer = np.square(variables["hidden"]).reshape(16, 4, 6).sum((0, 2))
    producer = np.square(variables["conv"]).sum((0, 1, 2))
    np.testing.assert_allclose(scores["conv[3]"], np.sqrt(consumer + producer), rtol=1e-5)


def test_taylor_is_the_gate_gradient(network: Network) -> None:
    apply, variables, images, graph = network

    def loss(params: PyTree, x: jax.Array) -> jax.Array:
        return jnp.square(apply(params, x)).sum()

    scores = importance.taylor(graph, loss, variables, images[None])
    for name, score in scores.items():
        for channel in range(len(score)):
            gates = {name: jnp.ones(len(score))}

            def at(
                value: float, name: str = name, channel: int = channel, gates: PyTree = gates
            ) -> jax.Array:
                moved = {name: gates[name].at[channel].set(value)}
                return jc.gated(graph, loss)(variables, moved, images)

            slope = (at(1.01) - at(0.99)) / 0.02
            np.testing.assert_allclose(score[channel], abs(slope), rtol=2e-2, atol=1e-2)


def test_uniform_depends_on_the_key_alone(network: Network) -> None:
    graph = network[3]
    first, again = (importance.random(graph, jax.random.key(1)) for _ in range(2))
    other = importance.random(graph, jax.random.key(2))
    for name in graph.groups:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_taylor_refuses_what_it_cannot_score(network: Network) -> None:
    apply, variables, images, graph = network
    loss = lambda params, x: jnp.square(apply(params, x)).mean()  # noqa: E731
    with pytest.raises(ValueError, match="at least one example"):
        importance.taylor(graph, loss, variables, images[None, :0])
    with pytest.raises(ValueError, match=r"returns float32\[5,3\]"):
        importance.taylor(graph, apply, variables, images[None])


def test_variables_of_other_shapes_are_not_scored(network: Network) -> None:
    _, variables, _, graph = network
    other = {**variables, "hidden": variables["hidden"].T}
    with pytest.raises(ValueError, match=r"hidden: \(6, 64\), not \(64, 6\)"):
        importance.magnitude(graph, other)
