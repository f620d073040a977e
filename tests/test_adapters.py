"""NNX and Equinox models obey the same laws: masked equals shrunk, and they can be put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxcompress as jc
from jaxcompress.adapters import (
    equinox_statistics,
    equinox_trainable,
    from_equinox,
    from_nnx,
    nnx_trainable,
)
from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated, shrink
from jaxcompress.training import init_state, reestimate, replace_leaves, train_step

STATISTICS: dict[type, set[str]] = {
    nnx.State: {"norm/mean", "norm/var"},
    tuple: {"1/0", "1/1/0", "1/1/1"},
}
IMAGES = jax.random.normal(jax.random.key(1), (4, 6, 6, 3))


class NnxNet(nnx.Module):
    """Conv, BatchNorm, residual conv, dropout, MLP."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.block = nnx.Conv(6, 6, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(6, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.stem(images)))
        x = (x + nnx.relu(self.block(x))).mean((1, 2))
        return self.head(self.dropout(nnx.relu(self.hidden(x))))


class EquinoxNet(eqx.Module):
    """Conv, BatchNorm, conv, dropout, dense, on one example with channels last."""

    stem: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    block: eqx.nn.Conv2d
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.stem = eqx.nn.Conv2d(3, 6, 3, key=keys[0])
        self.norm = eqx.nn.BatchNorm(6, axis_name="batch", mode="batch")
        self.block = eqx.nn.Conv2d(6, 5, 3, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(5, 2, key=keys[2])

    def __call__(
        self, image: jax.Array, state: eqx.nn.State, key: jax.Array | None = None
    ) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.norm(self.stem(jnp.moveaxis(image, -1, 0)), state)
        x = jax.nn.relu(self.block(jax.nn.relu(x))).mean((1, 2))
        return self.head(self.dropout(x, key=key)), state


class Adapted(NamedTuple):
    """An adapted model with random variables, its graph, and a compression of every group."""

    model: Any
    make: Callable[..., Any]
    apply: Callable[..., Any]
    train: Callable[..., Any]
    variables: Any
    graph: Graph
    keep: dict[str, np.ndarray]
    prune: Compression


def randomised(variables: Any) -> Any:
    """Move every inexact leaf, so that no bias or statistic is trivial."""
    leaves, treedef = flatten_with_paths(variables)
    generator = np.random.default_rng(0)
    moved = [
        leaf + 0.1 + 0.2 * generator.random(leaf.shape, np.float32)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else leaf
        for leaf in leaves.values()
    ]
    return jax.tree.unflatten(treedef, moved)


def adapted(make: Callable[..., Any], model: Any) -> Adapted:
    apply, variables = make(model)
    train, same = make(model, train=True)
    structure: Any = jax.tree.structure(variables)
    assert structure == jax.tree.structure(same)
    variables = randomised(variables)
    graph = trace(apply, variables, IMAGES)
    generator = np.random.default_rng(3)
    keep = {name: generator.permutation(g.width) < 3 for name, g in graph.groups.items()}
    prune = shrink(graph, keep)
    return Adapted(model, make, apply, train, variables, graph, keep, prune)


@pytest.fixture(scope="module")
def nnx_net() -> Adapted:
    return adapted(from_nnx, NnxNet(nnx.Rngs(0)))


@pytest.fixture(scope="module")
def equinox_net() -> Adapted:
    pair = eqx.nn.make_with_state(EquinoxNet)(jax.random.key(0))
    return adapted(from_equinox, pair)


@pytest.fixture(params=["nnx_net", "equinox_net"])
def net(request: pytest.FixtureRequest) -> Adapted:
    return request.getfixturevalue(request.param)


def masks(net: Adapted) -> dict[str, jax.Array]:
    return {name: jnp.asarray(kept, jnp.float32) for name, kept in net.keep.items()}


def assert_close(actual: Any, expected: Any) -> None:
    actual, expected = flatten_with_paths(actual)[0], flatten_with_paths(expected)[0]
    assert list(actual) == list(expected)
    for path, leaf in expected.items():
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(actual[path], leaf, rtol=1e-5, atol=1e-5, err_msg=path)


def changed(after: Any, before: Any) -> set[str]:
    """Return the paths of the leaves that differ."""
    after, before = flatten_with_paths(after)[0], flatten_with_paths(before)[0]
    return {path for path, leaf in before.items() if not bool(jnp.all(after[path] == leaf))}


def test_groups_are_found(nnx_net: Adapted, equinox_net: Adapted) -> None:
    assert {n: g.width for n, g in nnx_net.graph.groups.items()} == {
        "block/kernel[3]": 6,
        "hidden/kernel[1]": 8,
    }
    assert {n: g.width for n, g in equinox_net.graph.groups.items()} == {
        "0/block/weight[0]": 5,
        "0/stem/weight[0]": 6,
    }


def test_masked_equals_shrunk_in_evaluation(net: Adapted) -> None:
    masked = gated(net.graph, net.apply)(net.variables, masks(net), IMAGES)
    shrunk = net.prune.function(net.apply)(net.prune.variables(net.variables), IMAGES)
    assert_close(shrunk, masked)
    assert not np.allclose(masked, net.apply(net.variables, IMAGES), atol=1e-3)


def test_masked_equals_shrunk_in_training(net: Adapted) -> None:
    key, small = jax.random.key(7), net.prune.variables(net.variables)
    masked, state = gated(net.graph, net.train)(net.variables, masks(net), IMAGES, key)
    shrunk, small_state = net.prune.function(net.train)(small, IMAGES, key)
    assert_close(shrunk, masked)
    stepped = replace_leaves(net.variables, state)
    assert_close(replace_leaves(small, small_state), net.prune.variables(stepped))
    assert changed(replace_leaves(small, small_state), small) == STATISTICS[type(stepped)]


def test_dropout_goes_by_the_key(net: Adapted) -> None:
    once, again, other = (
        net.train(net.variables, IMAGES, jax.random.key(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other, atol=1e-3)


def test_evaluation_mode_is_deterministic_and_leaves_the_model_alone(net: Adapted) -> None:
    once, again = (net.apply(net.variables, IMAGES) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    if isinstance(net.model, tuple):
        assert not net.model[0].norm.inference and not net.model[0].dropout.inference
    else:
        assert not net.model.norm.use_running_average and not net.model.dropout.deterministic


def test_smaller_variables_go_back_into_an_nnx_model(nnx_net: Adapted) -> None:
    small = nnx_net.prune.variables(nnx_net.variables)
    expected = nnx_net.prune.function(nnx_net.apply)(small, IMAGES)
    merged = nnx.merge(nnx.graphdef(nnx_net.model), small)
    merged.eval()
    assert_close(merged(IMAGES), expected)
    updated = NnxNet(nnx.Rngs(0))
    nnx.update(updated, small)
    updated.eval()
    assert_close(updated(IMAGES), expected)


def test_smaller_variables_go_back_into_an_equinox_model(equinox_net: Adapted) -> None:
    small = equinox_net.prune.variables(equinox_net.variables)
    expected = equinox_net.prune.function(equinox_net.apply)(small, IMAGES)
    module, state = eqx.nn.inference_mode(eqx.combine(small, equinox_net.model))
    outputs, _ = jax.vmap(module, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(
        IMAGES, state
    )
    assert_close(outputs, expected)


def test_trainable_leaves_are_parameters(nnx_net: Adapted, equinox_net: Adapted) -> None:
    for net, make in ((nnx_net, nnx_trainable), (equinox_net, equinox_trainable)):
        trainable = make(net.model)
        leaves, _ = flatten_with_paths(net.variables)
        chosen = [path for path, leaf in leaves.items() if trainable(path, leaf)]
        parts = {path.split("/")[-1] for path in chosen}
        assert parts in ({"kernel", "bias", "scale"}, {"weight", "bias"})
        assert len(chosen) == 10 - 2 * (net is equinox_net)
        assert trace(net.apply, net.variables, IMAGES, trainable=trainable).params == sum(
            leaves[path].size for path in chosen
        )


def test_statistics_are_those_of_the_batches(net: Adapted) -> None:
    """One function of both kinds of model goes through re-estimation, also after a removal."""
    statistics = equinox_statistics(net.model) if isinstance(net.model, tuple) else None
    batches = jnp.stack([IMAGES, 2 * IMAGES + 1])
    small = net.prune.variables(net.variables)
    train = net.prune.function(net.train)
    key = jax.random.key(5)
    stepped = replace_leaves(small, train(small, IMAGES, key)[1])
    for start in (small, stepped):
        new = reestimate(train, start, batches, key=key, statistics=statistics)
        output = net.prune.function(net.apply)(new, IMAGES)
        again = reestimate(train, new, batches, key=key, statistics=statistics)
        assert_close(net.prune.function(net.apply)(again, IMAGES), output)
        mean, var = _normalised_by(net, new)
        hidden = _before_norm(net, new, batches)
        np.testing.assert_allclose(mean, hidden.mean((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var, hidden.var((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)


def _normalised_by(net: Adapted, variables: Any) -> tuple[jax.Array, jax.Array]:
    """Return the mean and variance that evaluation normalises by."""
    leaves, _ = flatten_with_paths(variables)
    if not isinstance(net.model, tuple):
        return leaves["norm/mean"], leaves["norm/var"]
    count = leaves["1/0"]
    weight = jnp.where(count == 0, 1.0, 1 - net.model[0].norm.momentum ** count)
    return leaves["1/1/0"] / weight, leaves["1/1/1"] / weight


def _before_norm(net: Adapted, variables: Any, batches: jax.Array) -> jax.Array:
    """Return what the stem makes of all images, channels last."""
    leaves, _ = flatten_with_paths(variables)
    if isinstance(net.model, tuple):
        kernel = jnp.transpose(leaves["0/stem/weight"], (2, 3, 1, 0))
        bias, padding = leaves["0/stem/bias"].reshape(-1), "VALID"
    else:
        kernel, bias, padding = leaves["stem/kernel"], leaves["stem/bias"], "SAME"
    made = [
        jax.lax.conv_general_dilated(
            images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for images in batches
    ]
    return jnp.stack(made) + bias


def test_parameters_are_told_from_state_without_being_told(net: Adapted) -> None:
    trainable = (equinox_trainable if isinstance(net.model, tuple) else nnx_trainable)(net.model)
    told = trace(net.apply, net.variables, IMAGES, trainable=trainable)
    assert net.graph.params == told.params
    shapes = jax.eval_shape(lambda: net.variables)
    assert trace(net.apply, shapes, IMAGES).params == told.params


def test_the_whole_flow_with_a_model_of_each_kind(net: Adapted) -> None:
    """Prune by the front door, re-estimate, take a training step, evaluate."""
    statistics = equinox_statistics(net.model) if isinstance(net.model, tuple) else None
    batches = [{"image": IMAGES}, {"image": 2 * IMAGES}]
    prune = jc.recipes.prune(
        net.apply,
        net.variables,
        batches,
        jc.Budget(flops=0.6),
        key=jax.random.key(0),
        train_apply=net.train,
        groups="all",
        examples=8,
    )
    small, apply = prune.variables(net.variables), prune.function(net.apply)
    train = prune.function(net.train)
    small = reestimate(
        train, small, jnp.stack([IMAGES, 2 * IMAGES]), key=jax.random.key(1), statistics=statistics
    )

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        outputs, state = train(variables, batch["image"], key)
        return jnp.square(outputs).mean(), (state, {})

    tx = optax.sgd(0.1)
    step = jax.jit(train_step(loss, tx))
    state = init_state(small, tx)
    new, metrics = step(state, batches[0], jax.random.key(2))
    assert np.isfinite(metrics["loss"])
    moved = changed(new.variables, small)
    assert any(path.endswith(("weight", "kernel")) for path in moved)
    assert np.isfinite(apply(new.variables, IMAGES)).all()
