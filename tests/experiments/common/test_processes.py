"""Two processes go through an experiment together: one result, or one refusal, and no waiting."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxcompress as jc
from experiments.common.joining import asked_for, without_flag
from jaxcompress.training import checkpoint_steps
from tests.experiments.common.staged import ROWS
from tests.processes import outputs_of_two


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What each of two processes of two devices saw, and their folder."""
    folder = tmp_path_factory.mktemp("together")
    for number in range(2):  # one of one name for each, on its disk
        (folder / str(number)).mkdir()
    texts = outputs_of_two("tests.experiments.common.staged", str(folder), devices=2)
    assert ["what the first alone prints" in text for text in texts] == [True, False]
    # Beside it stands what Gloo says of its connections.
    lines = [next(x for x in text.splitlines() if x.startswith("{")) for text in texts]
    return folder, [json.loads(line) for line in lines]


Together = tuple[Path, list[dict[str, Any]]]


def test_the_first_decides_what_a_stage_gave(together: Together) -> None:
    folder, said = together
    for one in said:
        assert one["first"]["total"] == ROWS.sum() and one["first"]["number"] == 0
        assert one["is_same"] and one["calls"] == ["summed"]
    assert said[0]["first"] == said[1]["first"]
    assert json.loads((folder / "run" / "stage-sum.json").read_text()) == said[0]["first"]


def test_a_stage_that_fails_in_one_fails_in_all(together: Together) -> None:
    first, second = (one["failed"] for one in together[1])
    assert second == "ValueError: of the second"
    assert "together: stage broken; but it failed in number 1: ValueError: of the sec" in first


def test_processes_that_differ_refuse_together(together: Together) -> None:
    folder, said = together
    for one in said:
        assert one["differ"].startswith("ValueError: all processes have the same of the settings")
        assert "epochs: 2 in number [0], 3 in number [1]" in one["differ"]
        assert "those of number [1] do not see" in one["blind"]
        assert "place 0" in one["places"] and "place 1" in one["places"]
    assert "epochs: 2 there, 9 here" in said[0]["others"]
    assert "it failed in number 0: ValueError" in said[1]["others"]
    assert not list(folder.rglob(".shared.*"))


def test_who_is_asked_to_stop_stops_all(together: Together) -> None:
    folder, said = together
    assert [one["code"] for one in said] == [128 + signal.SIGTERM] * 2
    assert checkpoint_steps(folder / "kept") == {3: None}


def test_who_does_not_come_is_named(together: Together) -> None:
    first = together[1][0]["late"]
    assert first.startswith("TimeoutError") and "those of number [1] did not come" in first


def test_a_command_of_one_process_refuses_at_once(together: Together) -> None:
    assert all("this command runs in one process" in one["alone"] for one in together[1])


def test_what_two_save_is_what_one_saves(together: Together, tmp_path: Path) -> None:
    folder, said = together
    variables = {name: ROWS for name in ("whole", "split", "local")}
    jc.save(tmp_path / "one", jc.chain(), {**variables, "key": jax.random.key(3)})
    assert contents(folder / "artifact") == contents(tmp_path / "one")
    assert said[0]["save"].startswith("TypeError")
    assert "it failed in number 0: TypeError" in said[1]["save"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of an artifact."""
    files = (file for file in folder.iterdir() if file.name != ".lock")
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("word", ["2", "2/2@host:1", "0/0@host:1", "0/2@host", "Auto"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"say for example 0/2@host:1234 in the first"):
        asked_for({"JAXCOMPRESS_PROCESSES": word})


def test_the_flag_is_the_variable() -> None:
    variables: dict[str, str] = {}
    assert without_flag(["digits", "--distributed=auto", "--seed", "3"], variables) == [
        "digits",
        "--seed",
        "3",
    ]
    assert variables == {"JAXCOMPRESS_PROCESSES": "auto"}
    for wrong in (["--distributed"], ["--distributed", "auto", "--distributed", "auto"]):
        with pytest.raises(ValueError, match="has one word behind it"):
            without_flag(wrong, {})
