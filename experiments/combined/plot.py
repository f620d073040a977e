"""Accuracy against bytes and FLOPs, right after and taught: filled on the front, else hollow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.combined.rows import COSTS
from experiments.common.report import Row
from jaxcompress.annotations import Array

__all__ = ["plot"]

MARKS = "osD^v<>P"
HEADINGS = {"bytes": ("kB on disk, as int8", 1e3), "flops": ("MFLOPs per image", 1e6)}


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rows: a row of panels for each step, a panel for each cost, a mark for each way.

    Args:
        path: of the picture.
        rows: of the report, the whole network's first.
    """
    from matplotlib.figure import Figure

    points = [row for row in rows if "way" in row.extra]
    steps = list(dict.fromkeys(row.extra["step"] for row in points))
    figure = Figure(figsize=(11, 4.2 * len(steps)), layout="constrained")
    panels = figure.subplots(len(steps), len(COSTS), squeeze=False)
    ways = list(dict.fromkeys(row.extra["way"] for row in points))
    for line, step in zip(panels, steps, strict=True):
        for axes, cost in zip(line, COSTS, strict=True):
            _panel(axes, [row for row in points if row.extra["step"] == step], ways, cost)
            axes.axhline(100 * (rows[0].accuracy or 0), color="black", linewidth=0.8)
            axes.set_title(step)
            axes.set_ylabel("test accuracy, %")
    panels[0][-1].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _panel(axes: Array, rows: Sequence[Row], ways: Sequence[str], cost: str) -> None:
    heading, unit = HEADINGS[cost]
    for number, way in enumerate(ways):
        color, mark = f"C{number}", MARKS[number % len(MARKS)]
        # An empty line names the way, whether or not any of its points are filled.
        axes.plot([], [], mark, color=color, label=way)
        for row in [row for row in rows if row.extra["way"] == way]:
            is_hollow = row.extra["dominated_by"][cost] is not None
            axes.plot(
                getattr(row, cost) / unit,
                100 * (row.accuracy or 0),
                mark,
                color=color,
                fillstyle="none" if is_hollow else "full",
                markersize=7,
            )
    axes.set_xlabel(heading)
