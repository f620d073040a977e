"""Folding: kernels computed from variables alone are stored, and everything works on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxcompress as jc
from tests.laws import random_keep
from tests.toys.record import draw, initial, rows

X = rows(4, 3)
SHAPES = {
    "a": (3, 8),
    "b": (8, 2),
    "gain": (8,),
    "left": (3, 2),
    "right": (2, 8),
    "stack": (5, 3, 3),
    "gains": (5, 3),
    "flat": (24,),
}


def standardised(kernel: jax.Array) -> jax.Array:
    return (kernel - kernel.mean(0)) / jnp.sqrt(kernel.var(0) + 1e-5)


def two_layers(kernel: Any) -> Any:
    return lambda v, x: jnp.tanh(x @ kernel(v)) @ v["b"]


def stacked(v: Any, x: jax.Array) -> jax.Array:
    """A scan whose kernels are computed in every step, under one shared matrix."""

    def step(state: jax.Array, leaves: Any) -> Any:
        kernel, gain = leaves
        return jnp.tanh(state @ standardised(kernel * gain)) + 0.1 * state, None

    return jax.lax.scan(step, x, (v["stack"], v["gains"]))[0] @ v["a"]


def called(wrap: Any) -> Any:
    layer = wrap(lambda v, x: jnp.tanh(x @ standardised(v["a"])))
    return lambda v, x: layer(v, x) @ v["b"]


CASES: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "equalised": (two_layers(lambda v: v["a"] * 0.5), {"a": (3, 8)}),
    "dequantised": (two_layers(lambda v: v["a"] * v["gain"]), {"a": (3, 8), "gain": (0,)}),
    "standardised": (two_layers(lambda v: standardised(v["a"])), {"a": (3, 8)}),
    "half": (two_layers(lambda v: (2 * v["a"]).astype(jnp.bfloat16)), {"a": (3, 8)}),
    "lora": (
        two_layers(lambda v: v["a"] + 0.5 * v["left"] @ v["right"]),
        {"a": (3, 8), "left": (0,), "right": (0,)},
    ),
    "reshaped": (two_layers(lambda v: (3 * v["flat"]).reshape(3, 8)), {"flat": (24,)}),
    "made": (two_layers(lambda v: jnp.exp(v["flat"].reshape(3, 8))), {"flat": (3, 8)}),
    "shared": (
        lambda v, x: jnp.tanh(jnp.tanh(x @ (2 * v["a"])) @ v["b"] @ v["left"].T @ (2 * v["a"])),
        {"a": (3, 8)},
    ),
    "jitted": (called(jax.jit), {"a": (3, 8)}),
    "rematerialised": (called(jax.checkpoint), {"a": (3, 8)}),
    "scanned": (stacked, {"stack": (5, 3, 3), "gains": (0,)}),
    "branched": (
        lambda v, x: jax.lax.cond(x.sum() > 0, lambda: x, lambda: -x) @ (2 * v["a"]),
        {"a": (3, 8)},
    ),
}


@pytest.fixture(scope="module")
def variables() -> Any:
    return draw(2, SHAPES)


@pytest.mark.parametrize("name", CASES)
def test_a_stored_kernel_is_what_the_function_computed(name: str, variables: Any) -> None:
    apply, changed = CASES[name]
    folding = jc.fold(apply, variables, X)
    folded, function = folding.variables(variables), folding.function(apply)
    assert {p: leaf["shape"] for p, leaf in folding.spec["leaves"].items()} == {
        p: list(SHAPES[p]) for p in changed
    }
    assert {p: folded[p].shape for p in changed} == changed
    stored, computed = jax.jit(function)(folded, X), jax.jit(apply)(variables, X)
    np.testing.assert_allclose(stored, computed, rtol=1e-5, atol=1e-6)
    kernel = next(iter(changed))
    original = np.asarray(variables[kernel]).reshape(changed[kernel])
    assert (np.asarray(folded[kernel]) != original).any()
    graph = jc.trace(function, folded, X)
    assert kernel in graph.sites and graph.sites[kernel].forms
    assert jc.trace(apply, variables, X).derived and not graph.derived


@pytest.mark.parametrize("name", ["lora", "scanned", "dequantised"])
def test_folding_is_a_compression_like_any(name: str, variables: Any, tmp_path: Path) -> None:
    apply, _ = CASES[name]
    folding = jc.fold(apply, variables, X)
    abstract = jax.eval_shape(lambda: variables)
    folded, function = folding.variables(variables), folding.function(apply)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), folded) == jax.tree.map(
        lambda x: (x.shape, x.dtype), folding.variables(abstract)
    )
    prune = jc.shrink(graph := jc.trace(function, folded, X), random_keep(graph))
    both = jc.chain(folding, prune)
    small = both.variables(variables)
    expected = jax.jit(prune.function(function))(small, X)
    assert sum(leaf.size for leaf in small.values()) < sum(leaf.size for leaf in folded.values())
    jc.save(tmp_path / "net", both, small)
    for like in (None, variables):
        loaded, read = jc.load(tmp_path / "net", apply, like)
        np.testing.assert_array_equal(jax.jit(loaded)(read, X), expected)
    gradient = jax.jit(jax.grad(lambda v: loaded(v, X).sum()))(small)
    for tx in (optax.adam(1e-3), optax.adafactor(1e-3), optax.sgd(1e-3, 0.9)):
        state = both.optimizer_state(tx, jax.jit(tx.init)(variables))
        updates, _ = jax.eval_shape(tx.update, gradient, state, small)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, small)


def test_a_folded_kernel_can_be_factorized(variables: Any) -> None:
    apply, _ = CASES["standardised"]
    folding = jc.fold(apply, variables, X)
    folded, function = folding.variables(variables), folding.function(apply)
    lowrank = jc.factorize(jc.trace(function, folded, X), {"a": 3})
    small = lowrank.variables(folded)
    np.testing.assert_allclose(
        lowrank.function(function)(small, X), apply(variables, X), rtol=1e-4, atol=1e-5
    )


class Standardised(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for features in (6, 5):
            x = nn.WeightNorm(nn.Conv(features, (3, 3)))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(2)(x.mean((1, 2)))


def test_training_functions_use_the_same_kernels() -> None:
    module, images = Standardised(), rows(2, 5, 5, 3)
    variables = initial(module, images)

    def train(variables: Any, x: jax.Array) -> Any:
        return module.apply(variables, x, train=True, mutable=["batch_stats"])

    folding = jc.fold(module.apply, variables, images)
    folded = folding.variables(variables)
    kernels = [path for path, leaf in folding.spec["leaves"].items() if "kernel" in leaf]
    assert len(kernels) == 2 and len(folding.spec["leaves"]) == 4
    for apply in (module.apply, train):
        made = jax.jit(folding.function(apply))(folded, images)
        expected = jax.jit(apply)(variables, images)
        for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_folded_is_named(variables: Any) -> None:
    tied = lambda v, x: jnp.tanh(x @ (v["a"] * v["gain"])) @ v["a"].T  # noqa: E731
    small = lambda v, x: x @ jnp.outer(v["gains"][0], v["gain"])  # noqa: E731
    with pytest.warns(UserWarning, match=r"something else reads \['a'\]"):
        folding = jc.fold(tied, variables, X)
    assert not folding.spec["leaves"] and folding.function(tied) is tied
    with pytest.warns(UserWarning, match=r"none of \['gain', 'gains'\] has its shape"):
        jc.fold(small, variables, X)


@pytest.mark.parametrize(
    "other",
    [
        two_layers(lambda v: v["a"] * 0.25),
        two_layers(lambda v: v["a"]),
        lambda v, x: (x @ (v["a"] * 0.5)).sum() + v["a"].sum(),
        lambda v, x: v["a"] * 2,
    ],
)
def test_a_function_that_computes_another_kernel_is_refused(other: Any, variables: Any) -> None:
    apply, _ = CASES["equalised"]
    folding = jc.fold(apply, variables, X)
    with pytest.raises(ValueError, match=re.escape("another value from ['a']")):
        folding.function(other)(folding.variables(variables), X)


def test_misuse_is_refused_by_name(variables: Any) -> None:
    apply, _ = CASES["equalised"]
    folding = jc.fold(apply, variables, X)
    small = folding.variables(variables)
    with pytest.raises(ValueError, match=r"a: missing, expected \(3, 8\)"):
        folding.variables({"b": variables["b"]})
    again = jc.from_spec(folding.spec)
    np.testing.assert_array_equal(
        again.function(apply)(small, X), folding.function(apply)(small, X)
    )
    with pytest.raises(ValueError, match=r"said by the function alone: \['a'\]"):
        again.variables(variables)
