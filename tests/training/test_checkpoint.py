"""A checkpoint restores the whole state bitwise, and costs nothing where none is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import parallel
from jaxcompress.training import (
    TrainState,
    init_state,
    restore_checkpoint,
    save_checkpoint,
    train_step,
)
from tests.trees import structure_of


def make_state() -> TrainState:
    key = jax.random.key(0)
    params = {"w": jax.random.normal(key, (3, 2)), "b": jnp.ones(2, jnp.bfloat16) / 3}
    variables = {"params": {"layers": [params]}, "rng": key}
    tx = optax.adamw(1e-3)

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        layer = variables["params"]["layers"][0]
        return jnp.sum(layer["w"] ** 2) + jnp.sum(layer["b"].astype(jnp.float32) ** 2), ({}, {})

    return train_step(loss, tx)(init_state(variables, tx), {}, key)[0]


def assert_same(actual: Any, desired: Any) -> None:
    assert structure_of(actual) == structure_of(desired)
    for a, d in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert a.dtype == d.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, d = jax.random.key_data(a), jax.random.key_data(d)
        np.testing.assert_array_equal(a, d)


@pytest.mark.parametrize("abstract", [False, True])
def test_round_trip_is_bitwise(tmp_path: Path, abstract: bool) -> None:
    state = make_state()
    save_checkpoint(tmp_path / "last", state)
    like = jax.eval_shape(lambda: state) if abstract else state
    assert_same(restore_checkpoint(tmp_path / "last", like), state)


def test_shardings_are_those_asked_for(tmp_path: Path) -> None:
    mesh, state = parallel.mesh(), make_state()
    save_checkpoint(tmp_path / "last", parallel.replicate(state, mesh))
    there = restore_checkpoint(tmp_path / "last", parallel.replicate(state, mesh))
    assert len(there.step.sharding.device_set) == len(jax.devices())
    here = restore_checkpoint(tmp_path / "last", state)
    assert len(here.step.sharding.device_set) == 1
    assert_same(there, here)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", {"step": jnp.int32(1)})
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_checkpoint(tmp_path / "last", {"step": jnp.int32(2)})
    save_checkpoint(tmp_path / "last", {"step": jnp.int32(2)}, overwrite=True)
    assert int(restore_checkpoint(tmp_path / "last", {"step": jnp.int32(0)})["step"]) == 2


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none at .*absent"):
        restore_checkpoint(tmp_path / "absent", {})


def test_importing_training_imports_no_checkpoint_library() -> None:
    code = "import sys, jaxcompress.training as t; print({'orbax', 'tensorstore'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
