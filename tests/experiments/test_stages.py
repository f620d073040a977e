"""A stage is done once, its time adds up over attempts, and other settings need another folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from experiments.stages import Stages


def stages(folder: Path, **settings: object) -> Stages:
    return Stages(folder, {"epochs": 2, **settings}, Console(quiet=True))


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, object]:
        calls.append(1)
        return {"bytes": 3}

    first = stages(tmp_path).run("knowledge", work)
    assert stages(tmp_path).run("knowledge", work) == first
    assert calls == [1] and first["bytes"] == 3 and first["device_hours"] > 0


def test_an_interrupted_stage_is_done_again_and_its_time_adds_up(tmp_path: Path) -> None:
    def interrupted() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path).run("teacher", interrupted)
    file = tmp_path / "stage-teacher.json"
    file.write_text('{"seconds": 100.0}')
    assert stages(tmp_path).run("teacher", dict)["seconds"] > 100


def test_other_settings_are_refused(tmp_path: Path) -> None:
    stages(tmp_path)
    stages(tmp_path)
    with pytest.raises(ValueError, match="epochs: 2 there, 3 here"):
        stages(tmp_path, epochs=3)
