"""Several processes save one checkpoint together, or all refuse it in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxcompress.training import checkpoint_steps, restore_checkpoint
from tests.processes import outputs_of_two
from tests.training.distributed import VALUES


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """What each of two processes of one device says, and the folder they wrote in."""
    folder = tmp_path_factory.mktemp("together")
    results = outputs_of_two("tests.training.distributed", str(folder))
    lines = [
        [line for line in text.splitlines() if line == "done" or "Error: " in line]
        for text in results
    ]
    return folder, lines


def test_what_processes_save_together_one_restores(outputs: tuple[Path, list[list[str]]]) -> None:
    folder, (first, second) = outputs
    assert first[-2] == second[-2] == "done"
    assert checkpoint_steps(folder / "run") == {5: 0.5, 7: None}
    like = {"w": VALUES, "step": np.int32(0), "split": VALUES}
    for array in (restore_checkpoint(folder / "run", like)[name] for name in ("w", "split")):
        np.testing.assert_array_equal(array, VALUES)


def test_processes_save_behind_and_hear_of_a_failure(outputs: tuple[Path, list[list[str]]]) -> None:
    folder, (first, second) = outputs
    assert checkpoint_steps(folder / "behind") == {0: 0.0, 1: -1.0, 2: -2.0}
    key = jax.random.key(7)
    like: Any = {"w": VALUES, "step": np.int32(0), "split": VALUES, "key": key}
    for step in (1, 2):
        there = restore_checkpoint(folder / "behind", like, step=step)
        assert int(there["step"]) == 3 + step and there["key"] == key
        for array in (there["w"], there["split"]):
            np.testing.assert_array_equal(array, VALUES + step)
    assert second[-1] == "OSError: no room"
    assert "writing the checkpoint failing" in first[-1] and "number 1: OSError" in first[-1]


def test_all_processes_refuse_together(outputs: tuple[Path, list[list[str]]]) -> None:
    folder, (first, second) = outputs
    follows = "RuntimeError: all processes do this together: writing the checkpoint run"
    assert "FileExistsError" in first[0] and follows in second[0]
    assert "it failed in number 0: FileExistsError: a checkpoint is written to a new" in second[0]
    assert "highest there is 5 and got step=5" in first[1] and follows in second[1]
    for said in (first, second):
        assert "w: an array of one process" in said[2] and "parallel.replicate" in said[2]
        assert "these leaves have none: w; pass parallel.replicate" in said[3]
        assert "those of number [1] do not see" in said[4]
    assert not (folder / "other").exists() and not list((folder / "0" / "apart").glob("[0-9]*"))
