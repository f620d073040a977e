"""Accuracy after pruning against FLOPs, as a picture: one curve per importance.

python -m benchmarks.importance.plot --reports importance.json --picture curves.png
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.importance.rows import Row
from benchmarks.importance.settings import Ours, Torch
from experiments.common import environment
from experiments.common.command import Command

__all__ = ["COMMAND", "Config", "main", "plot"]

STYLES = {"jaxcompress": "-o", "torch-pruning": ":s"}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is drawn.

    Attributes:
        reports: files of `benchmarks.importance`, of one network.
        picture: where it goes.
        methods: which, of either library; default all of two ratios or more.
    """

    reports: tuple[Path, ...]
    picture: Path
    methods: tuple[Ours | Torch, ...] = ()


def main(config: Config) -> None:
    """Draw files of `benchmarks.importance`."""
    environment.prepare()
    known = [json.loads(path.read_text())["rows"] for path in config.reports]
    merged = [Row(**row) for rows in known for row in rows]
    plot(config.picture, [r for r in merged if not config.methods or r.method in config.methods])


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw means over seeds, augmented re-estimation: ours solid, Torch-Pruning's dotted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds = dict.fromkeys((row.library, row.method) for row in rows if row.groups == "internal")
    for library, method in kinds:
        curve = [row for row in rows if row.key[:3] == (library, method, "internal")]
        ratios = sorted({row.ratio for row in curve})
        if len(ratios) < 2:
            continue
        means = [np.mean([r.test["augmented"] for r in curve if r.ratio == x]) for x in ratios]
        label = method if library == "jaxcompress" else f"Torch-Pruning: {method}"
        axes.plot(100 * np.array(ratios), means, STYLES[library], label=label, markersize=3)
    axes.set_xlabel("FLOPs that stay, %")
    axes.set_ylabel("test accuracy, %, no fine-tuning")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=110)


COMMAND = Command("benchmarks.importance.plot", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
