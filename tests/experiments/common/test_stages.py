"""A stage is done once, its time adds up over attempts, and other settings need another folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from experiments.common import stages as module
from experiments.common.stages import Stages
from jaxcompress.files import locked


def stages(folder: Path, **settings: object) -> Stages:
    return Stages(folder, {"epochs": 2, **settings}, Console(quiet=True))


def run(folder: Path, name: str, work: Any, *files: str) -> dict[str, Any]:
    with stages(folder) as opened:
        return opened.run(name, work, files)


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, object]:
        calls.append(1)
        return {"bytes": 3}

    first = run(tmp_path, "knowledge", work)
    assert run(tmp_path, "knowledge", work) == first
    assert calls == [1] and first["bytes"] == 3 and first["device_hours"] > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".lock",
        "settings.json",
        "stage-knowledge.json",
    ]


def test_an_interrupted_stage_is_done_again_and_its_time_adds_up(tmp_path: Path) -> None:
    def interrupted() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "teacher", interrupted)
    file = tmp_path / "stage-teacher.json"
    file.write_text('{"seconds": 100.0}')
    assert run(tmp_path, "teacher", dict)["seconds"] > 100


def test_other_settings_and_other_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages(tmp_path).close()
    stages(tmp_path).close()
    with pytest.raises(ValueError, match="epochs: 2 there, 3 here"):
        stages(tmp_path, epochs=3)
    with pytest.raises(ValueError, match="weights: nothing there, None here"):
        stages(tmp_path, weights=None)
    monkeypatch.setattr(module, "code_digest", lambda: "changed")
    with pytest.raises(ValueError, match="code: .* there, changed here"):
        stages(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', "\0" * 50, "\udcff", "[" * 9999])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    run(tmp_path, "one", dict)
    for name, remedy in (("stage-one", "delete it to do"), ("settings", "another workdir")):
        (tmp_path / f"{name}.json").write_text(text, errors="surrogateescape")
        with pytest.raises(ValueError, match=f"{name}.json is damaged.*{remedy}"):
            run(tmp_path, "one", dict)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"done": 1}, "done is 1"),
        ({"seconds": "5"}, "seconds is '5'"),
        ({"seconds": -1}, "seconds is -1"),
        ({"cpu_seconds": None}, "cpu_seconds is None"),
        ({"files": None}, "files holds no digests"),
        ({"read": {"teacher": 3}}, "read holds no digests"),
    ],
)
def test_a_file_that_lacks_what_a_stage_writes_is_named(
    tmp_path: Path, change: dict[str, Any], fact: str
) -> None:
    facts = run(tmp_path, "one", dict)
    (tmp_path / "stage-one.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(ValueError, match=f"stage-one.json is damaged.*{fact}"):
        run(tmp_path, "one", dict)


def test_what_later_stages_read_is_what_earlier_ones_left(tmp_path: Path) -> None:
    def teacher(content: bytes = b"right") -> dict[str, Any]:
        (tmp_path / "teacher").mkdir(exist_ok=True)
        (tmp_path / "teacher/weights").write_bytes(content)
        return {}

    def both() -> None:
        with stages(tmp_path) as opened:
            opened.run("teacher", teacher, ["teacher"])
            opened.run("student", dict)

    both()
    both()
    (tmp_path / "teacher/weights").write_bytes(b"righu")
    with pytest.raises(ValueError, match="teacher: .* since stage teacher; put them back, or"):
        both()
    # A teacher made anew is another one for the student of the first.
    (tmp_path / "stage-teacher.json").unlink()
    with pytest.raises(ValueError, match="teacher: .* since stage student"):
        with stages(tmp_path) as opened:
            opened.run("teacher", lambda: teacher(b"other"), ["teacher"])
            opened.run("student", dict)
    shutil.rmtree(tmp_path / "teacher")
    with pytest.raises(ValueError, match="teacher: .* there, None here"):
        both()


def test_a_stage_that_leaves_no_file_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stage gates left no \['keep.npz'\]"):
        run(tmp_path, "gates", dict, "keep.npz")
    with stages(tmp_path) as opened:
        assert not opened.done("gates")


@pytest.mark.parametrize("facts", [{"x": object()}, {"x": float("nan")}])
def test_facts_that_json_cannot_hold_are_named(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="stage four found .*x"):
        run(tmp_path, "four", lambda: facts)
    assert run(tmp_path, "four", dict)["done"]
    with pytest.raises(ValueError, match="settings of an experiment are JSON"):
        stages(tmp_path / "other", **facts)
    with pytest.raises(ValueError, match="'a/b' is empty or holds a slash"):
        run(tmp_path, "a/b", dict)


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    with stages(tmp_path):
        with pytest.raises(BlockingIOError, match=f"held by process {os.getpid()} on"):
            stages(tmp_path)
    opened = stages(tmp_path)
    del opened  # whoever forgets to close it does not hold the folder for ever
    with pytest.raises(ValueError, match="epochs"):
        stages(tmp_path, epochs=3)
    with locked(tmp_path):
        pass


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_hides_no_error_and_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails() -> dict[str, Any]:
        monkeypatch.setattr(os, call, full)
        raise RuntimeError("the real error")

    def fills() -> dict[str, Any]:
        monkeypatch.setattr(os, call, full)
        return {"accuracy": 0.75}

    run(tmp_path, "one", lambda: {"accuracy": 0.5})
    with pytest.raises(RuntimeError, match="the real error") as caught:
        run(tmp_path, "two", fails)
    assert "could not be written" in caught.value.__notes__[0]
    with pytest.raises(OSError, match="No space left.*make room and run again"):
        run(tmp_path, "two", lambda: pytest.fail("there is no room for what it finds"))
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left.*It found .*'accuracy': 0.75") as caught_again:
        run(tmp_path, "two", fills)
    assert caught_again.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert run(tmp_path, "one", dict)["accuracy"] == 0.5
    assert run(tmp_path, "two", lambda: {"accuracy": 1.0})["accuracy"] == 1.0


KILLED = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from experiments.common.environment import code_digest
from experiments.common.stages import Stages

code_digest()  # here once, and not in every child
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}

def write(folder, last):
    left = [last]

    def watch(event, args):
        if event in EVENTS and str(folder) in str(args):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    with Stages(folder, {"epochs": 2}, Console(quiet=True)) as stages:
        stages.run("one", lambda: {"x": 1})
        stages.run("two", lambda: {"x": 2})

number = status = 0
while number == 0 or status == signal.SIGKILL:
    number += 1
    child = os.fork()
    if not child:
        write(Path(sys.argv[1], str(number)), number)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
print(number, status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")
def test_a_kill_at_any_event_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    program = [sys.executable, "-c", KILLED, str(tmp_path)]
    events, status = map(int, subprocess.check_output(program, text=True).split())
    assert status == 0 and events > 12
    for number in range(1, events + 1):
        folder = tmp_path / str(number)
        for file in folder.glob("*.json"):
            assert isinstance(json.loads(file.read_text()), dict)
        assert run(folder, "one", lambda: {"x": 1})["x"] == 1
        assert run(folder, "two", lambda: {"x": 2})["x"] == 2
        left = {file.name for file in folder.iterdir()}
        assert left == {".lock", "settings.json", "stage-one.json", "stage-two.json"}
