"""Progress shows in a log file too, with the time that is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from experiments.common import progress


def test_lines_of_a_log_file_say_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def __init__(self) -> None:
            self.calls = 0

        @property
        def seconds(self) -> float:
            self.calls += 1
            return 3.0 * self.calls

    monkeypatch.setattr(progress, "Stopwatch", Clock)
    stream = io.StringIO()
    items = list(progress.steps(range(6), 6, "counting", Console(file=stream, width=80)))
    assert items == list(range(6))
    lines = stream.getvalue().splitlines()
    assert lines and all("counting: " in line and "s left" in line for line in lines)


def test_what_is_quick_says_nothing() -> None:
    stream = io.StringIO()
    list(progress.steps(range(6), 6, "counting", Console(file=stream, width=80)))
    assert stream.getvalue() == ""
