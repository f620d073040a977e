"""Checkpoints of somebody else, signed anew: refused by name, or restored as they were saved."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.training import checkpoint_steps, restore_checkpoint, save_checkpoint
from tests.training.hostile_checkpoints import HOSTILE, OFTEN, STATE, renames_signed, sign

# Orbax leaves threads and coroutines behind where it fails.
pytestmark = pytest.mark.filterwarnings("ignore")

LIKE = jax.tree.map(np.zeros_like, STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    save_checkpoint(folder, STATE, step=3)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def start_measuring() -> None:
    """Let the largest memory of this process be counted from now on, where Linux does."""
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Return a size that Linux knows of this process in bytes, e.g. `VmHWM`; 0 elsewhere."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return 0
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


def is_refused(folder: Path) -> bool:
    start_measuring()
    before, started = memory("VmRSS"), time.process_time()
    try:
        loaded = restore_checkpoint(folder, LIKE)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), error
        assert str(folder) in str(error), error
        assert re.search("start from init_state|pass the state that was saved", str(error)), error
        return True
    finally:
        assert memory("VmHWM") - before < 64 << 20 and time.process_time() - started < 2
    jax.tree.map(np.testing.assert_array_equal, loaded, STATE)
    assert jax.tree.map(lambda x: x.dtype, loaded) == jax.tree.map(lambda x: x.dtype, STATE)
    return False


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_hostile_checkpoints_are_refused_or_restored_right(
    saved: Path, tmp_path: Path, change: Callable[[Path, random.Random], None]
) -> None:
    draw, refused, count = random.Random(change.__name__), 0, OFTEN.get(change, 4)
    for number in range(count):
        folder = tmp_path / str(number) / "run"
        shutil.copytree(saved, folder)
        change(folder / "3", draw)
        refused += is_refused(folder)
        checkpoint_steps(folder)
    save_checkpoint(folder, STATE, overwrite=True, keep=1)
    assert not is_refused(folder)
    assert refused or change is renames_signed


def test_the_unchanged_one_is_restored(copied: Path) -> None:
    sign(copied / "3")
    assert not is_refused(copied)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**LIKE, "step": np.float32(0)}, r"step: int32\[\] there, float32\[\] asked for"),
        ({**LIKE, "c": np.zeros(2, np.int8)}, r"c: nothing there, int8\[2\] asked for"),
        ({**LIKE, "a": {"w": np.zeros((4, 8), np.float32)}}, r"a/w: float32\[8, 4\] there, .*4, 8"),
        ({"step": LIKE["step"]}, r"a/w: .* there, nothing asked for; b/w: .*; pass the state that"),
    ],
)
def test_a_state_of_other_leaves_is_refused(saved: Path, like: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restore_checkpoint(saved, like)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a.b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}, "a.b: two of one name.*rename"),
        ({"a": "text", "b": np.ones(3)}, r"a: a str; leave them out"),
        ({"a": {}}, "there are none"),
        ({"a": object()}, "a: a object"),
    ],
)
def test_what_could_not_be_restored_is_not_saved(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "run", state)
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_and_python_are_saved(tmp_path: Path) -> None:
    state = {"a": np.int64(3), "b": 2, "c": 0.5, "d": True, "e": np.float64(0.1)}
    save_checkpoint(tmp_path / "run", state)
    restored = restore_checkpoint(tmp_path / "run", state)
    assert jax.tree.map(float, restored) == jax.tree.map(lambda x: float(jnp.asarray(x)), state)


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_what_lies_in_the_way_of_a_save_is_removed(copied: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "notes").write_text("precious")
    aside = copied / ".unfinished"
    if kind == "file":
        aside.write_text("in the way")
    else:
        aside.symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    save_checkpoint(copied, STATE, overwrite=True)
    assert not is_refused(copied) and not aside.exists()
    assert (tmp_path / "victim" / "notes").read_text() == "precious"
