"""Checkpoints written behind training: the same files, from copies, and no error is lost."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.training import (
    checkpoint_steps,
    restore_checkpoint,
    save_checkpoint,
    saving_behind,
    step_folders,
)

MESH = parallel.mesh()
ROWS = jax.random.normal(jax.random.key(0), (64, 8))
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "one device": lambda tree: tree,
    "replicated": lambda tree: parallel.replicate(tree, MESH),
    "split": lambda tree: {
        **parallel.replicate(tree, MESH),
        "rows": jax.device_put(tree["rows"], NamedSharding(MESH, P("data"))),
    },
}


def state() -> dict[str, Any]:
    half = jnp.ones(3, jnp.bfloat16) / 3
    empty = jnp.zeros((0, 2))
    return {"rows": ROWS, "half": half, "empty": empty, "key": jax.random.key(3), "n": jnp.int32(0)}


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def one_more(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: leaf if name == "key" else leaf + 1 for name, leaf in tree.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_leaves_what_saving_at_once_leaves(tmp_path: Path, layout: str) -> None:
    """Though every step takes the buffers of the state that is being written."""
    step = jax.jit(one_more, donate_argnums=0)
    like, at_once = state(), LAYOUTS[layout](state())
    behind = LAYOUTS[layout](_copied(state()))
    with saving_behind(tmp_path / "behind", keep=2) as save:
        for number, score in enumerate([0.1, 0.9, 0.3, 0.5]):
            save_checkpoint(tmp_path / "at once", at_once, step=number, score=score)
            save(behind, step=number, score=score)
            at_once, (before, behind) = one_more(at_once), (behind, step(behind))
            assert before["rows"].is_deleted() and before["key"].is_deleted()
            jax.block_until_ready(behind)
    steps = checkpoint_steps(tmp_path / "behind")
    assert steps == checkpoint_steps(tmp_path / "at once") == {1: 0.9, 2: 0.3, 3: 0.5}
    for number in steps:
        both = [
            restore_checkpoint(tmp_path / name, like, step=number) for name in ("behind", "at once")
        ]
        for tree in both:
            tree["key"] = jax.random.key_data(tree["key"])
        jax.tree.map(np.testing.assert_array_equal, *both)
        np.testing.assert_array_equal(both[0]["n"], number)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let nothing be moved in before this is set."""
    event, finish = threading.Event(), step_folders.finish

    def waiting(*arguments: Any) -> int:
        assert event.wait(30)
        return finish(*arguments)

    monkeypatch.setattr(step_folders, "finish", waiting)
    yield event
    event.set()


def test_training_goes_on_meanwhile_and_the_end_waits(
    tmp_path: Path, gate: threading.Event
) -> None:
    with pytest.raises(SystemExit), saving_behind(tmp_path) as save:
        save(state(), step=1)
        assert checkpoint_steps(tmp_path) == {}
        with pytest.raises(BlockingIOError, match="one writer at a time"):
            save_checkpoint(tmp_path, state(), step=2)
        threading.Timer(0.2, gate.set).start()
        raise SystemExit(143)
    assert checkpoint_steps(tmp_path) == {1: None}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when step 2 is finished."""
    finish = step_folders.finish

    def failing(folder: Path, step: int, *rest: Any) -> int:
        if step == 2:
            raise OSError(errno.ENOSPC, "no space left on device")
        return finish(folder, step, *rest)

    monkeypatch.setattr(step_folders, "finish", failing)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_error_is_raised_at_the_next_save_or_at_the_end(
    tmp_path: Path, at_the_end: bool
) -> None:
    said = []
    with pytest.raises(OSError, match="no space left"), saving_behind(tmp_path) as save:
        save(state(), step=1)
        save(state(), step=2)
        said.append("went on")
        if not at_the_end:
            save(state(), step=3)
            said.append("is not reached")
    assert said == ["went on"]
    assert checkpoint_steps(tmp_path) == {1: None}
    assert sorted(os.listdir(tmp_path)) == [".lock", "1"]
    restore_checkpoint(tmp_path, state())
    with saving_behind(tmp_path) as save:
        save(state(), step=3)
    assert checkpoint_steps(tmp_path) == {1: None, 3: None}


@pytest.mark.usefixtures("full")
def test_another_error_carries_it_as_a_note(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError) as raised, saving_behind(tmp_path) as save:
        save(state(), step=2)
        raise FloatingPointError("the loss is NaN")
    assert "failed, too: OSError" in raised.value.__notes__[0]


def test_wrong_arguments_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be"), saving_behind(tmp_path, keep=0):
        pass
    with saving_behind(tmp_path) as save:
        save(state(), step=4)
        with pytest.raises(ValueError, match="highest there is 4 and got step=4"):
            save(state(), step=4)
        with pytest.raises(ValueError, match="name: a str"):
            save({"name": "last"}, step=5)
        with pytest.raises(ValueError, match="score must be a finite number"):
            save(state(), step=5, score=float("nan"))
    assert checkpoint_steps(tmp_path) == {4: None}
