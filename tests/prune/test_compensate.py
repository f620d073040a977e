"""Kernels that make up for channels that go: least squares of what they gave."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxcompress as jc
from jaxcompress.annotations import PyTree
from jaxcompress.low_rank import input_covariances
from jaxcompress.prune import compensate, forms_that_lose

KEEP = np.array([True, True, False, False])


class Net(nn.Module):
    """A convolution, a depthwise one and grouped ones before a head."""

    groups: int = 1

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.Conv(4, (3, 3), name="first")(images))
        hidden = nn.relu(nn.Conv(4, (3, 3), feature_group_count=4, name="depth")(hidden))
        hidden = nn.Conv(6, (3, 3), feature_group_count=self.groups, name="second")(hidden)
        return nn.Dense(3, name="head")(jnp.tanh(hidden).mean((1, 2)))


def network(groups: int, *, seed: int = 0) -> tuple[Any, PyTree, jax.Array]:
    """Return a network with random biases, and images."""
    images = jnp.asarray(np.random.default_rng(seed).normal(size=(16, 6, 6, 3)), jnp.float32)
    module = Net(groups)
    variables = module.init(jax.random.key(seed), images)
    draws = np.random.default_rng(seed + 1)
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * draws.normal(size=leaf.shape), variables)
    return jax.jit(module.apply), jax.tree.map(jnp.float32, moved), images


def removed(apply: Any, variables: PyTree, images: Any, keep: Any, ridge: float) -> tuple[Any, Any]:
    """Return the compression of a keep, and the variables that make up for it."""
    graph = jc.trace(apply, variables, images)
    compression = jc.shrink(graph, keep)
    forms = forms_that_lose(graph, compression)
    seen = input_covariances(graph, apply, variables, [images], forms)
    return compression, compensate(graph, variables, seen, compression, ridge=ridge)


def with_copies(variables: PyTree) -> PyTree:
    """Let channels 2 and 3 carry the double of channels 0 and 1, through both convolutions."""
    params = {name: dict(layer) for name, layer in variables["params"].items()}
    twice = lambda leaf: leaf.at[..., 2:4].set(2 * leaf[..., 0:2])  # noqa: E731
    params["first"] = jax.tree.map(twice, params["first"])
    depth = params["depth"]
    same = depth["kernel"].at[..., 2:4].set(depth["kernel"][..., 0:2])
    params["depth"] = {"kernel": same, "bias": twice(depth["bias"])}
    return {"params": params}


def test_what_others_tell_is_not_lost() -> None:
    apply, variables, images = network(1)
    variables = with_copies(variables)
    name = "params/depth/kernel[3]"
    compression, whole = removed(apply, variables, images, {name: KEEP}, 1e-7)
    small = jax.jit(compression.function(apply))
    wanted, other = apply(variables, images), images[:, ::-1] * 0.7
    np.testing.assert_allclose(small(compression.variables(whole), images), wanted, atol=2e-4)
    # The copies are copies for whatever comes, and without them the answers are others.
    unseen = small(compression.variables(whole), other)
    np.testing.assert_allclose(unseen, apply(variables, other), atol=2e-4)
    assert np.abs(small(compression.variables(variables), images) - wanted).max() > 0.01


def test_least_squares_of_a_dot() -> None:
    draws = np.random.default_rng(2)
    mixed = draws.normal(size=(40, 3)) @ draws.normal(size=(3, 5))
    x = jnp.asarray(mixed + 0.3 * draws.normal(size=(40, 5)), jnp.float32)
    apply = lambda v, x: (x @ v["a"]) @ v["b"]  # noqa: E731
    variables = {"a": jnp.eye(5), "b": jnp.asarray(draws.normal(size=(5, 2)), jnp.float32)}
    keep = {"a[1]": np.array([True, False, True, True, False])}
    _, whole = removed(apply, variables, x, keep, 1e-9)
    kept = keep["a[1]"]
    target = np.asarray(x, np.float64) @ np.asarray(variables["b"], np.float64)
    best = np.linalg.lstsq(np.asarray(x, np.float64)[:, kept], target, rcond=None)[0]
    np.testing.assert_allclose(np.asarray(whole["b"])[kept], best, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(whole["b"])[~kept], variables["b"][~kept])


@pytest.mark.parametrize("ridge", [1e-4, 0.1, 10.0])
def test_no_kernel_gives_back_less(ridge: float) -> None:
    """A kernel that does not move pays the whole error and no ridge: it cannot be the better."""
    apply, variables, images = network(1)
    graph = jc.trace(apply, variables, images)
    compression = jc.shrink(graph, {"params/depth/kernel[3]": KEEP})
    forms = forms_that_lose(graph, compression)
    assert forms == {"params/second/kernel": "channel"}
    seen = input_covariances(graph, apply, variables, [images], forms)
    moved = compensate(graph, variables, seen, compression, ridge=ridge)
    kernel = lambda tree: np.asarray(tree["params"]["second"]["kernel"], np.float64)  # noqa: E731
    errors = []
    for after in (variables, moved):
        lack = kernel(variables) - kernel(after) * KEEP[:, None]
        rows = lack.reshape(36, 6)
        errors.append(np.einsum("rc,rs,sc->", rows, seen["params/second/kernel"][0], rows))
    assert errors[1] < errors[0]


def test_whole_groups_that_go_leave_the_others_as_they_are() -> None:
    apply, variables, images = network(2)
    graph = jc.trace(apply, variables, images)
    compression = jc.shrink(graph, {"params/depth/kernel[3]": np.array([True, False])})
    assert forms_that_lose(graph, compression) == {"params/head/kernel": "dense"}


def test_whole_networks_and_scans_and_half_precision() -> None:
    def apply(v: Any, x: jax.Array) -> jax.Array:
        step = lambda h, layer: (h + jnp.tanh(h @ layer["a"]) @ layer["b"], None)  # noqa: E731
        return jax.lax.scan(step, x, v)[0]

    draws = np.random.default_rng(3)
    variables = {
        "a": jnp.asarray(draws.normal(size=(2, 4, 6)), jnp.bfloat16),
        "b": jnp.asarray(draws.normal(size=(2, 6, 4)), jnp.bfloat16),
    }
    x = jnp.asarray(draws.normal(size=(32, 4)), jnp.bfloat16)
    graph = jc.trace(apply, variables, x)
    name = next(n for n, group in graph.groups.items() if group.width == 6)
    _, same = removed(apply, variables, x, {name: np.ones(6, bool)}, 0.1)
    assert all(map(np.array_equal, jax.tree.leaves(same), jax.tree.leaves(variables)))
    _, moved = removed(apply, variables, x, {name: np.arange(6) < 3}, 0.1)
    assert moved["b"].dtype == jnp.bfloat16
    assert (moved["b"] != variables["b"]).any((1, 2)).tolist() == [True, True]
    assert (moved["b"][:, 3:] == variables["b"][:, 3:]).all()


def test_recipe_and_misuse() -> None:
    apply, variables, images = network(1)
    graph = jc.trace(apply, variables, images)
    compression = jc.shrink(graph, {"params/depth/kernel[3]": KEEP})
    settings: dict[str, Any] = {"examples": 16, "size": 8, "ridge": 0.1}
    whole = jc.recipes.compensate(apply, variables, [images], compression, **settings)
    _, wanted = removed(apply, variables, images, {"params/depth/kernel[3]": KEEP}, 0.1)
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)
    low = jc.low_rank.factorize(graph, {"params/second/kernel": 2}, {})
    with pytest.raises(ValueError, match="this one is of kind 'factorize'"):
        jc.recipes.compensate(apply, variables, [images], low, **settings)
    with pytest.raises(ValueError, match=r"second/kernel: \(2, 2\), expected \(1, 36, 36\)"):
        compensate(graph, variables, {"params/second/kernel": np.eye(2)}, compression)
    with pytest.raises(ValueError, match="ridge"):
        compensate(graph, variables, {}, compression, ridge=0.0)
