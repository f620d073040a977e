"""Gradients added up over several steps: the update of the whole batch, and what else holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.training import (
    TrainState,
    init_state,
    jit_step,
    restore_checkpoint,
    save_checkpoint,
    train_step,
)

KEY = jax.random.key(0)
MESH = parallel.mesh()
PARTS, UPDATES = 4, 3
OPTIMIZERS = {
    "momentum": optax.sgd(optax.cosine_decay_schedule(0.1, UPDATES + 1), momentum=0.9),
    "adam, clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(1e-2)),
}


def drawn(number: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


VARIABLES = {"params": {"first": drawn(0, 4, 6), "second": drawn(1, 6, 3)}}
BATCH = {"x": drawn(2, 64, 4), "label": jnp.arange(64) % 3, "valid": jnp.arange(64) < 50}


def each(variables: Any, batch: Any) -> jax.Array:
    """Return the loss of each example."""
    params = variables["params"]
    logits = jnp.tanh(batch["x"] @ params["first"]) @ params["second"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def mean(variables: Any, batch: Any, key: jax.Array) -> Any:
    return each(variables, batch).mean(), ({}, {})


def accumulated(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.MultiSteps(tx, PARTS).gradient_transformation()


def parts_of(batch: Any) -> list[Any]:
    size = len(batch["x"]) // PARTS
    return [
        jax.tree.map(lambda leaf, i=i: leaf[i * size : (i + 1) * size], batch) for i in range(PARTS)
    ]


def run(step: Any, state: TrainState, batches: list[Any], updates: int = UPDATES) -> TrainState:
    for _ in range(updates):
        for batch in batches:
            state, _ = step(state, batch, KEY)
    return state


def by_jit(tx: Any) -> Any:
    return jax.jit(train_step(mean, tx))


def on_a_mesh(tx: Any) -> Any:
    step = jit_step(train_step(mean, tx), MESH)
    return lambda state, batch, key: step(state, parallel.shard_batch(batch, MESH), key)


def in_shard_map(check_vma: bool) -> Callable[[Any], Any]:
    specs: Any = {"in_specs": (P(), P("data"), P()), "out_specs": P(), "check_vma": check_vma}
    return lambda tx: jax.jit(
        jax.shard_map(train_step(mean, tx, axis_name="data"), mesh=MESH, **specs)
    )


def in_pmap(tx: Any) -> Any:
    mapped = jax.pmap(
        train_step(mean, tx, axis_name="data"), axis_name="data", in_axes=(None, 0, None)
    )

    def step(state: TrainState, batch: Any, key: jax.Array) -> Any:
        split = jax.tree.map(lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), batch)
        return jax.tree.map(lambda leaf: leaf[5], mapped(state, split, key))

    return step


WAYS: dict[str, Callable[[Any], Any]] = {
    "jit": by_jit,
    "mesh": on_a_mesh,
    "shard_map": in_shard_map(True),
    "shard_map without check_vma": in_shard_map(False),
    "pmap": in_pmap,
}


def assert_close(actual: Any, desired: Any) -> None:
    jax.tree.map(
        lambda a, d: np.testing.assert_allclose(a, d, rtol=1e-6, atol=1e-6), actual, desired
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_parts_give_the_update_of_the_whole_batch(way: str, name: str) -> None:
    tx = OPTIMIZERS[name]
    whole = run(by_jit(tx), init_state(VARIABLES, tx), [BATCH])
    many = accumulated(tx)
    state = run(WAYS[way](many), init_state(VARIABLES, many), parts_of(BATCH))
    assert_close(state.variables, whole.variables)
    assert_close(state.opt_state.inner_opt_state, whole.opt_state)
    assert np.abs(state.variables["params"]["first"] - VARIABLES["params"]["first"]).max() > 1e-3
    assert int(state.step) == PARTS * UPDATES and int(state.opt_state.gradient_step) == UPDATES


def test_variables_stand_still_between_updates() -> None:
    tx = accumulated(OPTIMIZERS["momentum"])
    state = init_state(VARIABLES, tx)
    for batch in parts_of(BATCH)[:-1]:
        state, _ = by_jit(tx)(state, batch, KEY)
    jax.tree.map(np.testing.assert_array_equal, state.variables, VARIABLES)


@pytest.mark.parametrize("is_weighed", [False, True])
def test_uneven_counts_need_weights(is_weighed: bool) -> None:
    """A mean over the valid examples of each part is another mean than that over all of them."""
    tx = optax.sgd(0.1)

    def valid(variables: Any, batch: Any, key: jax.Array) -> Any:
        total = jnp.sum(each(variables, batch) * batch["valid"])
        count = batch["count"][0] if is_weighed else batch["valid"].sum()
        return total / count, ({}, {})

    count = BATCH["valid"].sum()
    whole = BATCH | {"count": jnp.full(64, count)}
    shared = BATCH | {"count": jnp.full(64, count / PARTS)}
    alone, many = jax.jit(train_step(valid, tx)), jax.jit(train_step(valid, accumulated(tx)))
    expected = run(alone, init_state(VARIABLES, tx), [whole]).variables["params"]["first"]
    state = run(many, init_state(VARIABLES, accumulated(tx)), parts_of(shared))
    difference = np.abs(state.variables["params"]["first"] - expected).max()
    assert difference < 1e-6 if is_weighed else difference > 1e-4


def test_statistics_of_batches_are_those_of_the_parts() -> None:
    """Each part is normalised alone, and moves the running averages once."""
    variables = {**VARIABLES, "batch_stats": {"mean": jnp.zeros(6)}}

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        hidden = batch["x"] @ variables["params"]["first"]
        center, old = hidden.mean(0), variables["batch_stats"]["mean"]
        value = jnp.square(jnp.tanh(hidden - center) @ variables["params"]["second"]).mean()
        return value, ({"batch_stats": {"mean": 0.9 * old + 0.1 * center}}, {})

    tx = optax.sgd(0.1)
    many = accumulated(tx)
    step = jax.jit(train_step(loss, many))
    state = run(step, init_state(variables, many), parts_of(BATCH), updates=1)
    gradient = jax.grad(lambda params, part: loss({**variables, **params}, part, KEY)[0])
    params = {"params": VARIABLES["params"]}
    slopes = [gradient(params, part)["params"] for part in parts_of(BATCH)]
    means = jax.tree.map(lambda *leaves: sum(leaves) / PARTS, *slopes)
    moved = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, VARIABLES["params"], means)
    assert_close(state.variables["params"], moved)
    running = jnp.zeros(6)
    for part in parts_of(BATCH):
        running = 0.9 * running + 0.1 * (part["x"] @ VARIABLES["params"]["first"]).mean(0)
    assert_close(state.variables["batch_stats"]["mean"], running)
    whole = gradient(params, BATCH)["params"]["first"]
    assert np.abs(whole - means["first"]).max() > 1e-4


@pytest.mark.parametrize("place", [lambda tree: tree, lambda t: parallel.replicate(t, MESH)])
def test_a_checkpoint_within_an_update_goes_on_with_the_same_bits(
    tmp_path: Path, place: Callable[[Any], Any]
) -> None:
    tx = accumulated(OPTIMIZERS["adam, clipped"])
    step, parts = jax.jit(train_step(mean, tx)), parts_of(BATCH) * 2
    state = place(init_state(VARIABLES, tx))
    for number, batch in enumerate(parts):
        state, _ = step(state, batch, KEY)
        if number == 5:
            save_checkpoint(tmp_path / "run", state)
    restored = restore_checkpoint(tmp_path / "run", place(init_state(VARIABLES, tx)))
    assert int(restored.opt_state.mini_step) == 2
    for batch in parts[6:]:
        restored, _ = step(restored, batch, KEY)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
