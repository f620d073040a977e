"""Training steps: one result under jit, a mesh of eight devices, shard_map and pmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.graph.trainable import combine, in_params, inexact, partition
from jaxcompress.training import TrainState, init_state, jit_step, train_step
from tests.trees import structure_of

KEY = jax.random.key(0)
TX = optax.sgd(0.1, momentum=0.9)


class Net(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.Conv(4, (3, 3), use_bias=False)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=False, axis_name=self.axis_name)(x))
        return nn.Dense(3)(x.mean((1, 2)))


def make_loss(axis_name: str | None = None) -> Callable[..., Any]:
    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        del key
        logits, state = Net(axis_name).apply(variables, batch["image"], mutable=["batch_stats"])
        value = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return value, (state, {"accuracy": accuracy})

    return loss


@pytest.fixture(scope="module")
def variables() -> Any:
    return Net().init(KEY, jnp.zeros((1, 6, 6, 2)))


@pytest.fixture(scope="module")
def batch() -> dict[str, jax.Array]:
    image = jax.random.normal(jax.random.key(1), (16, 6, 6, 2)) * 2 + 1
    return {"image": image, "label": jnp.arange(16) % 3}


@pytest.fixture(scope="module")
def expected(variables: Any, batch: Any) -> tuple[TrainState, dict[str, Any]]:
    """Two steps without jit, on one device."""
    step, state = train_step(make_loss(), TX), init_state(variables, TX)
    state, _ = step(state, batch, KEY)
    return step(state, batch, KEY)


def fresh(variables: Any) -> TrainState:
    """A state of its own buffers, which a step may donate."""
    return jax.tree.map(jnp.copy, init_state(variables, TX))


def assert_close(actual: Any, desired: Any) -> None:
    assert structure_of(actual) == structure_of(desired)
    jax.tree.map(
        lambda a, d: np.testing.assert_allclose(a, d, rtol=2e-5, atol=1e-6), actual, desired
    )


def test_the_step_trains_and_renews_statistics(variables: Any, expected: Any) -> None:
    state, metrics = expected
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.variables, variables)
    assert all(jax.tree.leaves(moved))
    assert int(state.step) == 2 and set(metrics) == {"loss", "accuracy"}
    assert sorted(state.opt_state[0].trace)[0] == "params/BatchNorm_0/bias"


@pytest.mark.parametrize("count", [1, 8])
def test_jit_over_a_mesh(variables: Any, batch: Any, expected: Any, count: int) -> None:
    mesh = parallel.mesh(jax.devices()[:count])
    traces = []

    def loss(*args: Any) -> Any:
        traces.append(1)
        return make_loss()(*args)

    step, given = jit_step(train_step(loss, TX), mesh), parallel.replicate(variables, mesh)
    first, _ = step(init_state(given, TX), parallel.shard_batch(batch, mesh), KEY)
    second, metrics = step(first, parallel.shard_batch(batch, mesh), KEY)
    assert_close((second, metrics), expected)
    assert len(traces) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert_close(given, variables)


def test_a_batch_that_does_not_divide_is_refused(variables: Any, batch: Any) -> None:
    mesh = parallel.mesh(jax.devices()[:8])
    step = jit_step(train_step(make_loss(), TX), mesh)
    odd = jax.tree.map(lambda leaf: leaf[:3], batch)
    with pytest.raises(ValueError, match=r"split over 8 devices .*'label': \(3,\)\} .*pad_batch"):
        step(init_state(variables, TX), odd, KEY)


@pytest.mark.parametrize("count", [1, 8])
def test_only_states_that_the_step_made_are_donated(variables: Any, batch: Any, count: int) -> None:
    mesh = parallel.mesh(jax.devices()[:count])
    step, batch = jit_step(train_step(make_loss(), TX), mesh), parallel.shard_batch(batch, mesh)
    held = [variables, parallel.replicate(variables, mesh)]
    for tree in held:
        state = init_state(tree, TX)
        for _ in range(3):
            before, (state, _) = state, step(state, batch, KEY)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    mixed = state._replace(variables=held[1])
    step(mixed, batch, KEY)
    assert state.step.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(held))


def test_counts_are_means_over_the_devices() -> None:
    def loss(variables: Any, batch: Any, key: Any) -> Any:
        return (variables["a"] * batch).mean(), ({}, {"above": (batch > 3).sum()})

    step = train_step(loss, TX, axis_name="data")
    state = init_state({"a": jnp.ones(())}, TX)
    _, metrics = jax.pmap(step, axis_name="data", in_axes=(None, 0, None))(
        state, jnp.arange(8.0).reshape(4, 2), KEY
    )
    np.testing.assert_array_equal(metrics["above"], np.full(4, 1.0))


def test_shard_map(variables: Any, batch: Any, expected: Any) -> None:
    step = train_step(make_loss("data"), TX, axis_name="data")

    def two(state: TrainState, batch: Any, key: jax.Array) -> Any:
        def body(state: TrainState, _: None) -> Any:
            return step(state, batch, key)

        state, metrics = jax.lax.scan(body, state, None, length=2)
        return state, jax.tree.map(lambda metric: metric[-1], metrics)

    mapped = jax.shard_map(two, mesh=parallel.mesh(), in_specs=(P(), P("data"), P()), out_specs=P())
    assert_close(jax.jit(mapped)(fresh(variables), batch, KEY), expected)


def test_pmap(variables: Any, batch: Any, expected: Any) -> None:
    step = train_step(make_loss("data"), TX, axis_name="data")
    mapped = jax.pmap(step, axis_name="data", in_axes=(0, 0, None))
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), fresh(variables))
    split = jax.tree.map(lambda leaf: leaf.reshape(8, 2, *leaf.shape[1:]), batch)
    for _ in range(2):
        state, metrics = mapped(state, split, KEY)
    for device in (0, 7):
        one = jax.tree.map(lambda leaf, device=device: leaf[device], (state, metrics))
        assert_close(one, expected)


def test_unsynchronised_batch_norm_differs_across_devices(
    variables: Any, batch: Any, expected: Any
) -> None:
    step = train_step(make_loss(), TX, axis_name="data")
    mapped = jax.shard_map(
        step, mesh=parallel.mesh(), in_specs=(P(), P("data"), P()), out_specs=P()
    )
    state, _ = jax.jit(mapped)(fresh(variables), batch, KEY)
    var = state.variables["batch_stats"]["BatchNorm_0"]["var"]
    desired = train_step(make_loss(), TX)(fresh(variables), batch, KEY)[0]
    assert not np.allclose(var, desired.variables["batch_stats"]["BatchNorm_0"]["var"], rtol=1e-4)


def test_partition_and_combine_are_inverse(variables: Any) -> None:
    params, rest = partition(variables)
    assert all(path.startswith("params/") for path in params)
    assert all(path.startswith("batch_stats/") for path in rest)
    assert_close(combine(params, rest, like=variables), variables)
    with pytest.raises(ValueError, match="missing are .*batch_stats.*unknown are .*other"):
        combine({**params, "other": 1.0}, {}, like=variables)


def test_predicates() -> None:
    tree = {"params": {"w": jnp.ones(2), "count": jnp.int32(0)}, "state": {"m": jnp.ones(2)}}
    assert set(partition(tree)[0]) == {"params/w"}
    assert set(partition(tree, inexact)[0]) == {"params/w", "state/m"}
    assert set(partition({"w": jnp.ones(2), "n": jnp.int32(0)})[0]) == {"w"}
    with pytest.raises(ValueError, match="at least one leaf must be trainable.*weight"):
        partition({"weight": jnp.ones(2)}, in_params)


def test_equinox_arrays_train_alike() -> None:
    arrays, static = eqx.partition(eqx.nn.Linear(2, 1, key=KEY), eqx.is_array)

    def loss(arrays: Any, batch: jax.Array, key: jax.Array) -> Any:
        model = eqx.combine(arrays, static)
        return jnp.mean(jax.vmap(model)(batch) ** 2), ({}, {})

    state = init_state(arrays, TX)
    step, inputs = jax.jit(train_step(loss, TX)), jnp.ones((4, 2))
    state, first = step(state, inputs, KEY)
    state, second = step(state, inputs, KEY)
    assert structure_of(state.variables) == structure_of(arrays)
    assert second["loss"] < first["loss"]


def test_counters_and_keys_pass_as_new_state() -> None:
    def loss(variables: Any, batch: jax.Array, key: jax.Array) -> Any:
        state = {"rng": jax.random.fold_in(variables["rng"], 1), "count": variables["count"] + 1}
        return (variables["w"] * batch.mean() - 1) ** 2, (state, {})

    variables = {"w": jnp.float32(2), "rng": KEY, "count": jnp.int32(0)}
    step = train_step(loss, TX, axis_name="data")
    mapped = jax.shard_map(
        step, mesh=parallel.mesh(), in_specs=(P(), P("data"), P()), out_specs=P()
    )
    state, _ = jax.jit(mapped)(init_state(variables, TX), jnp.ones(8), KEY)
    assert int(state.variables["count"]) == 1
    assert state.variables["rng"] == jax.random.fold_in(KEY, 1)
    np.testing.assert_allclose(state.variables["w"], 1.8, rtol=1e-6)


@pytest.mark.parametrize(
    ("new_state", "message"),
    [({"w": jnp.float32(0)}, "both: .*'w'"), ({"mean": jnp.float32(0)}, "lack .*'mean'")],
)
def test_wrong_new_state_is_refused(new_state: Any, message: str) -> None:
    step = train_step(lambda variables, *_: (variables["w"] ** 2, (new_state, {})), TX)
    with pytest.raises(ValueError, match=message):
        step(init_state({"w": jnp.float32(1)}, TX), {}, KEY)
