"""Killed at any moment, a checkpoint is the old or the new one; with other bytes it is refused."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.files import locked
from jaxcompress.training import checkpoint_steps, digests, restore_checkpoint, save_checkpoint

LIKE = {"step": np.int32(0), "w": np.zeros((32, 8), np.float32)}

# What a kill leaves is what lies there when it comes: a process copies that before each of its own
# file-system events below the folder. Orbax's threads write on meanwhile, aside.
EVENTS = """
import os, shutil, sys
import numpy as np
from orbax.checkpoint import v1
from jaxcompress.training import save_checkpoint, saving_behind
root = sys.argv[1]
folder, events, copying = os.path.join(root, "last"), 0, False

def hook(event, arguments):
    global events, copying
    is_own = event.split(".")[0] in ("os", "shutil", "open") and folder in str(arguments[:2])
    if is_own and not copying:
        copying, events = True, events + 1
        # A file of a thread may vanish meanwhile.
        copy = os.path.join(root, str(events))
        os.system(f"cp -r '{folder}' '{copy}' 2>/dev/null")
        copying = False

sys.addaudithook(hook)
state = {"step": np.array(2, np.int32), "w": np.full((32, 8), 2, np.float32)}
if sys.argv[2] == "behind":
    with saving_behind(folder, keep=1) as save:
        save(state, step=2)
else:
    save_checkpoint(folder, state, overwrite=True, keep=1)
"""

# And one that really is killed, without any clean-up, when its step is moved in.
KILLED = """
import os, signal, sys
from jaxcompress.training import save_checkpoint
import numpy as np
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("/last/" + sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
state = {"step": np.array(2, np.int32), "w": np.ones((32, 8), np.float32)}
save_checkpoint(sys.argv[1], state, overwrite=True)
"""


def state(step: int) -> dict[str, Any]:
    return {"step": jnp.int32(step), "w": jnp.full((32, 8), step, jnp.float32)}


def folders_after_kills(root: Path, way: str = "at once") -> list[Path]:
    command = [sys.executable, "-c", EVENTS, str(root), way]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted((path for path in root.iterdir() if path.name.isdecimal()), key=number)


def number(path: Path) -> int:
    return int(path.name)


def names_below(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))


@pytest.mark.parametrize("way", ["at once", "behind"])
def test_a_kill_at_every_event_leaves_the_old_or_the_new_whole(tmp_path: Path, way: str) -> None:
    save_checkpoint(tmp_path / "last", state(1))
    steps = []
    for folder in folders_after_kills(tmp_path, way):
        there = restore_checkpoint(folder, LIKE)
        steps.append(int(there["step"]))
        np.testing.assert_array_equal(there["w"], steps[-1])
    assert steps == sorted(steps) and set(steps) == {1, 2}
    assert steps.count(1) > 20 and steps.count(2) > 4, Counter(steps)


def test_a_kill_of_the_first_save_leaves_a_folder_to_start_in(tmp_path: Path) -> None:
    folders = folders_after_kills(tmp_path)
    unfinished = [folder for folder in folders if not checkpoint_steps(folder)]
    # Many events leave files of the same names.
    different = {names_below(folder): folder for folder in unfinished}
    assert len(unfinished) > 20 and len(different) > 4
    for folder in different.values():
        save_checkpoint(folder, state(1))
        assert int(restore_checkpoint(folder, LIKE)["step"]) == 1
        assert sorted(os.listdir(folder)) == [".lock", "0"]


def test_a_killed_save_lets_go_of_the_folder(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", state(1))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "last"), "1"])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "last" / ".unfinished" / "1" / digests.FILE).exists()
    assert int(restore_checkpoint(tmp_path / "last", LIKE)["step"]) == 1
    save_checkpoint(tmp_path / "last", state(3), overwrite=True)
    assert checkpoint_steps(tmp_path / "last") == {0: None, 1: None}


def damage(file: Path, trial: int, rng: random.Random) -> None:
    """Cut a file short, or flip one bit of it."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    if trial % 5 == 4:
        content = content[:at]
    else:
        content[at] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def test_sixty_damages_are_all_refused(tmp_path: Path) -> None:
    rng, values = random.Random(1), np.random.default_rng(0).normal(size=(32, 8))
    good = {"step": jnp.int32(7), "w": jnp.asarray(values, jnp.float32)}
    save_checkpoint(tmp_path / "good", good)
    files = [path for path in (tmp_path / "good" / "0").rglob("*") if path.is_file()]
    files = [path.relative_to(tmp_path / "good") for path in files if path.stat().st_size]
    seen = Counter[str]()
    for trial in range(60):
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        file = files[trial % len(files)]
        damage(tmp_path / "bad" / file, trial, rng)
        with pytest.raises(ValueError, match=f"step 0 of .*bad.*{file.name}.*init_state"):
            restore_checkpoint(tmp_path / "bad", LIKE)
        seen[file.name] += 1
    assert len(seen) == len({file.name for file in files}) > 4


def test_files_removed_or_added_are_named(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "run", state(step), step=step)
    (tmp_path / "run" / "2" / "_CHECKPOINT_METADATA").unlink()
    (tmp_path / "run" / "2" / "state" / "other").touch()
    names = "_CHECKPOINT_METADATA, state/other; pass step=1, which is whole"
    with pytest.raises(ValueError, match=names):
        restore_checkpoint(tmp_path / "run", LIKE)
    assert int(restore_checkpoint(tmp_path / "run", LIKE, step=1)["step"]) == 1


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    for step, score in enumerate([0.1, 0.9, 0.3, 0.5, 0.4]):
        save_checkpoint(tmp_path / "run", state(step), step=step, score=score, keep=2)
    assert checkpoint_steps(tmp_path / "run") == {1: 0.9, 3: 0.5, 4: 0.4}
    assert int(restore_checkpoint(tmp_path / "run", LIKE, step=1)["step"]) == 1
    with pytest.raises(FileNotFoundError, match=r"of step 2, only of \[1, 3, 4\]"):
        restore_checkpoint(tmp_path / "run", LIKE, step=2)
    with pytest.raises(ValueError, match="highest there is 4 and got step=4"):
        save_checkpoint(tmp_path / "run", state(4), step=4)
    with pytest.raises(ValueError, match="score must be a finite number, but is nan"):
        save_checkpoint(tmp_path / "run", state(5), step=5, score=float("nan"))


def test_a_full_disk_leaves_the_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **given: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    save_checkpoint(tmp_path / "run", state(1))
    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(digests, "write_digests", full)
        save_checkpoint(tmp_path / "run", state(2), overwrite=True)
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "0"]
    assert int(restore_checkpoint(tmp_path / "run", LIKE)["step"]) == 1


def test_two_writers_are_told_of_each_other(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", state(0))
    with locked(tmp_path / "run"), pytest.raises(BlockingIOError, match="process .* on "):
        save_checkpoint(tmp_path / "run", state(1), overwrite=True)


def test_what_save_did_not_write_stays(tmp_path: Path) -> None:
    """Numbered folders of other programs are neither steps nor leftovers."""
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "notes").touch()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_checkpoint(tmp_path, state(0))
    for _ in range(2):
        save_checkpoint(tmp_path, state(0), overwrite=True, keep=1)
    assert checkpoint_steps(tmp_path) == {2026: None}
    assert (tmp_path / "2024" / "notes").exists()


def test_orbax_reads_the_steps(tmp_path: Path) -> None:
    from orbax.checkpoint import v1 as orbax

    for step in (3, 5):
        save_checkpoint(tmp_path / "run", state(step), step=step)
    with orbax.training.Checkpointer(tmp_path / "run") as steps:
        assert [checkpoint.step for checkpoint in steps.checkpoints] == [3, 5]
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state(0))
        assert int(steps.load(5, like)["step"]) == 5
