"""Accuracy against FLOPs, as a picture: one panel per kind of factors, one curve per method.

python -m experiments.ranks.plot --reports report.json other.json --picture curves.png
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.common import environment
from experiments.common.command import Command
from experiments.common.report import Row
from jaxcompress.annotations import Array

__all__ = ["COMMAND", "Config", "main", "plot"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is drawn.

    Attributes:
        reports: of `experiments.ranks` and one network, the first with its dense row.
        picture: where it goes.
    """

    reports: tuple[Path, ...]
    picture: Path


def main(config: Config) -> None:
    """Draw what several reports compared."""
    environment.prepare()
    reports = [json.loads(path.read_text())["rows"] for path in config.reports]
    plot(config.picture, [Row.from_json(row) for rows in reports for row in rows])


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rows that have a `method`; solid with BatchNorm re-estimated, dotted without.

    Args:
        path: of the picture.
        rows: of `experiments.ranks`, the dense network's first.
    """
    from matplotlib.figure import Figure

    compared = [row for row in rows if "method" in row.extra]
    kinds = list(dict.fromkeys(row.extra["factors"] for row in compared))
    figure = Figure(figsize=(4.5 * len(kinds), 4), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        _panel(axes, [row for row in compared if row.extra["factors"] == kind], rows[0])
        axes.set_title(f"factors: {kind}")
    panels[0].set_ylabel("test accuracy, % (dotted: statistics kept)")
    panels[-1].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _panel(axes: Array, rows: Sequence[Row], dense: Row) -> None:
    # On the images of the comparison, where they are not all.
    accuracy = dense.extra.get("compared") or dense.accuracy or 0
    axes.axhline(100 * accuracy, color="black", linewidth=0.8, label="dense")
    axes.set_xlabel("FLOPs, % of the network's")
    rising = sorted(rows, key=lambda row: row.flops or 0)
    for number, method in enumerate(dict.fromkeys(row.extra["method"] for row in rows)):
        for renewed, style in ((True, "-o"), (False, ":")):
            curve = [
                row
                for row in rising
                if row.extra["method"] == method
                and row.extra["reestimated"] == renewed
                and row.extra.get("step") != "fine-tuned"
            ]
            x = [100 * (row.flops or 0) / (dense.flops or 1) for row in curve]
            y = [100 * (row.accuracy or 0) for row in curve]
            label = method if renewed else None
            axes.plot(x, y, style, color=f"C{number}", label=label, markersize=3)


COMMAND = Command("experiments.ranks.plot", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
