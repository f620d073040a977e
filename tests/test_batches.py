"""Batches one by one give what they give stacked, and nothing holds more than one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.batches import one_by_one
from jaxcompress.prune import importance, learn_gates
from jaxcompress.training import reestimate

KEY = jax.random.key(0)


class Toy(NamedTuple):
    graph: jc.Graph
    variables: Any
    batches: Any


def train_apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
    hidden = x @ variables["a"]
    mean, var = hidden.mean(0), hidden.var(0)
    state = {
        "mean": 0.9 * variables["mean"] + 0.1 * mean,
        "var": 0.9 * variables["var"] + 0.1 * var,
    }
    hidden = jnp.tanh((hidden - mean) / jnp.sqrt(var + 1e-3))
    return hidden @ variables["b"], state


def apply(variables: Any, x: jax.Array) -> jax.Array:
    hidden = (x @ variables["a"] - variables["mean"]) / jnp.sqrt(variables["var"] + 1e-3)
    return jnp.tanh(hidden) @ variables["b"]


def loss(variables: Any, batch: Any) -> jax.Array:
    outputs = train_apply(variables, batch["x"], KEY)[0]
    return jnp.square(outputs - batch["y"]).mean()


@pytest.fixture(scope="module")
def toy() -> Toy:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    norms = {"mean": draw(6), "var": jnp.exp(draw(6))}
    variables = {"a": draw(4, 6), "b": draw(6, 2), **norms}
    batches = {"x": 2 * draw(5, 8, 4) + 1, "y": draw(5, 8, 2)}
    return Toy(jc.trace(apply, variables, batches["x"][0]), variables, batches)


def singles(batches: Any) -> Iterator[Any]:
    """Yield them, of which no earlier one can be read again."""
    for number in range(5):
        yield jax.tree.map(lambda leaf, number=number: np.asarray(leaf[number]), batches)


def equal(one: Any, other: Any, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    for a, b in zip(jax.tree.leaves(dict(one)), jax.tree.leaves(dict(other)), strict=True):
        np.testing.assert_allclose(a, b, rtol, atol)


def test_scores_of_batches_one_by_one_are_those_of_the_stack(toy: Toy) -> None:
    graph, variables, batches = toy
    taylor = importance.taylor(graph, loss, variables, batches)
    equal(importance.taylor(graph, loss, variables, singles(batches)), taylor)
    fisher = importance.fisher(graph, loss, variables, batches, key=KEY)
    equal(importance.fisher(graph, loss, variables, singles(batches), key=KEY), fisher)
    assert any(np.abs(np.asarray(score)).max() > 0 for score in fisher.values())


def test_gates_learn_from_batches_one_by_one(toy: Toy) -> None:
    graph, variables, batches = toy
    start, budget = {"a[1]": jnp.arange(1.0, 7.0)}, jc.Budget(params=0.6)
    learned = learn_gates(graph, loss, variables, start, budget, batches)
    equal(learn_gates(graph, loss, variables, start, budget, list(singles(batches))), learned)
    again = learn_gates(graph, loss, variables, start, budget, singles(batches), steps=5)
    equal(again, learned)
    with pytest.raises(ValueError, match="whose end alone tells; pass steps="):
        learn_gates(graph, loss, variables, start, budget, singles(batches))
    with pytest.raises(ValueError, match="of 7 only 5 came"):
        learn_gates(graph, loss, variables, start, budget, singles(batches), steps=7)


def test_statistics_of_batches_one_by_one_are_those_of_the_stack(toy: Toy) -> None:
    images = toy.batches["x"]
    stacked = reestimate(train_apply, toy.variables, images, key=KEY)
    equal(reestimate(train_apply, toy.variables, singles(images), key=KEY), stacked)
    assert np.abs(stacked["mean"] - toy.variables["mean"]).max() > 0.1


def test_batches_of_uneven_sizes_count_by_their_examples(toy: Toy) -> None:
    """By the law of total variance: any parts of the same examples have one mean and variance."""
    images = toy.batches["x"].reshape(40, 4)
    whole = reestimate(train_apply, toy.variables, [images], key=KEY)
    parts = reestimate(train_apply, toy.variables, [images[:27], images[27:]], key=KEY)
    equal(parts, whole, rtol=1e-5, atol=1e-5)


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batches holds at least one batch, but is empty"):
        one_by_one("batches", [])
    with pytest.raises(TypeError, match="or iterates over batches, but is a int"):
        one_by_one("batches", 3)
    every = one_by_one("batches", [np.ones((2, 3)), np.ones((0, 3))])[1]
    with pytest.raises(ValueError, match=r"batches\[1\] has shape \(0, 3\)"):
        list(every)
