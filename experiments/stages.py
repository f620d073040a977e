"""Stages: the steps of a long experiment, each done once and timed, whoever is interrupted when.

A stage leaves a JSON file of what it found beside the files it made. Run again with the same
settings, the experiment skips every stage that has one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

__all__ = ["Stages"]


@dataclasses.dataclass(frozen=True)
class Stages:
    """The stages of one experiment in one folder.

    Attributes:
        workdir: where the files of the stages lie.
        settings: of the experiment, as JSON can hold; other settings need another folder.
        console: where progress is shown.
    """

    workdir: Path
    settings: dict[str, Any]
    console: Console

    def __post_init__(self) -> None:
        """Claim the folder for these settings.

        Raises:
            ValueError: if it holds stages of other settings; each difference is named.
        """
        self.workdir.mkdir(parents=True, exist_ok=True)
        file, own = self.workdir / "settings.json", json.loads(json.dumps(self.settings))
        if not file.exists():
            return _write(file, own)
        found = json.loads(file.read_text())
        names = sorted(n for n in {*found, *own} if found.get(n) != own.get(n))
        if names:
            offences = [f"{n}: {found.get(n)} there, {own.get(n)} here" for n in names]
            raise ValueError(
                f"a folder holds the stages of one experiment, but {self.workdir} was made with "
                f"other settings ({'; '.join(offences)}); choose another workdir"
            )

    def done(self, name: str) -> bool:
        """Whether a stage has finished."""
        file = self._file(name)
        return file.exists() and bool(json.loads(file.read_text()).get("done"))

    def _file(self, name: str) -> Path:
        return self.workdir / f"stage-{name}.json"

    def run(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a stage, or return what it found when it was done.

        Args:
            name: of the stage and its file.
            work: does it and returns facts for the report, as JSON can hold.

        Returns:
            The facts, and of all attempts that were not killed `seconds`, `device_hours` and, for
            machines that others share, `cpu_seconds` of this process.
        """
        file = self._file(name)
        known = json.loads(file.read_text()) if file.exists() else {}
        if known.get("done"):
            self.console.print(f"[bold]{name}[/bold]: done before, {known['seconds']:.0f} s")
            return known
        self.console.print(f"[bold]{name}[/bold]")
        started, begun, facts = time.perf_counter(), time.process_time(), dict[str, Any]()
        try:
            facts = {**work(), "done": True}
        finally:
            seconds = known.get("seconds", 0.0) + time.perf_counter() - started
            busy = known.get("cpu_seconds", 0.0) + time.process_time() - begun
            hours = seconds * jax.device_count() / 3600
            facts |= {"seconds": seconds, "device_hours": hours, "cpu_seconds": busy}
            _write(file, facts)
        return facts


def _write(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, file)
