"""What a run on limited resources leaves: tables, report and picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

import jaxcompress as jc
from experiments.common import report
from experiments.common.table import table
from experiments.limited_resources.settings import Config
from jaxcompress.annotations import Array, PyTree
from jaxcompress.report import details

__all__ = ["finish", "outputs_of"]

CONSOLE = Console()


def outputs_of(config: Config) -> Path:
    """Return where artifacts, report and picture go: ways to teach have a folder each."""
    return config.workdir / config.method


def finish(
    config: Config,
    graph: jc.Graph,
    keep: dict[str, np.ndarray],
    variables: PyTree,
    rows: list[report.Row],
    by_stage: dict[str, dict[str, Array]],
) -> None:
    """Print the tables; write the report, the picture and the page."""
    table(rows)
    for row in rows:
        CONSOLE.print(
            f"{row.name}: variance over views {row.extra['view_variance']:.3f}, "
            f"{row.extra['view_ratio']:.3f} of that over images"
        )
    for name, facts in by_stage.items():
        CONSOLE.print(
            f"{name}: {facts['seconds']:.0f} s, {facts['cpu_seconds']:.0f} s of CPU, "
            f"{facts['device_hours']:.4f} device-hours"
        )
    total = sum(facts["device_hours"] for facts in by_stage.values())
    CONSOLE.print(f"all stages: {total:.4f} device-hours")
    settings = {**dataclasses.asdict(config), "stages": by_stage}
    told = details(graph, jc.shrink(graph, keep), variables)
    rows = [*rows[:-1], dataclasses.replace(rows[-1], extra={**rows[-1].extra, "details": told})]
    stages = [
        {"name": name} | {key: facts[key] for key in ("seconds", "device_hours", "cpu_seconds")}
        for name, facts in by_stage.items()
    ]
    path = report.write_report(outputs_of(config), "limited_resources", settings, rows, stages)
    picture = outputs_of(config) / "limited_resources.png"
    title = f"{config.network} at {config.flops:.0%} FLOPs, taught by {config.method}"
    report.draw(picture, title, graph, keep, rows)
    CONSOLE.print(f"report: {path}\npicture: {picture}\npage: {path.with_name('report.html')}")
