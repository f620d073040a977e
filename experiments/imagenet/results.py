"""What a run leaves: a table, the report and its page."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console

from experiments.common import report
from experiments.common.network import Network
from experiments.common.table import table
from experiments.imagenet.measuring import row_of
from experiments.imagenet.pruning import graph_of
from experiments.imagenet.settings import Config
from jaxcompress import artifact
from jaxcompress.report import details

__all__ = ["finish"]


def finish(
    config: Config,
    teacher: Network,
    student: Network,
    facts: dict[str, dict[str, Any]],
    console: Console,
) -> list[report.Row]:
    """Print the rows and what the stages took, and write the report.

    Args:
        config: the settings.
        teacher: the whole network.
        student: what is left of it, taught.
        facts: what each stage has told.
        console: where it is printed.
    """
    seconds = {name: stage["seconds"] for name, stage in facts.items()}
    student_size = artifact.num_bytes(config.workdir / "student")
    pruned_size = artifact.num_bytes(config.workdir / "pruned")
    made = seconds["gates"] + seconds["shrink"]
    told = details(
        graph_of(config, teacher), student.compression, teacher.variables, student.variables
    )
    last = row_of("student", facts["measure-student"], student_size, seconds["fine-tune"])
    rows = [
        row_of("teacher", facts["teacher"], None, 0.0),
        row_of("pruned", facts["measure-pruned"], pruned_size, made),
        dataclasses.replace(last, extra={**last.extra, "details": told}),
    ]
    table(rows, console)
    stages = [{"name": name} | _plain(stage) for name, stage in facts.items()]
    for name, stage in facts.items():
        console.print(f"{name}: {_line(stage)}")
    path = report.write_report(config.workdir, "imagenet", config, rows, stages)
    console.print(f"report: {path}\npage: {path.with_name('report.html')}")
    return rows


UNTOLD = ("done", "files", "read")


def _plain(stage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stage.items() if name not in UNTOLD}


def _line(stage: dict[str, Any]) -> str:
    texts = [f"{stage['seconds']:,.0f} s, {stage['cpu_seconds']:,.0f} s of CPU"]
    shown = {
        "views_per_second": "{:,.1f} views/s",
        "images_per_second": "{:,.1f} images/s",
        "megabytes": "{:,.2f} MB before compression",
        "megabytes_on_disk": "{:,.2f} MB on disk",
    }
    texts += [text.format(stage[name]) for name, text in shown.items() if name in stage]
    return ", ".join(texts)
