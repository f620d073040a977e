"""Accuracy after pruning against FLOPs, as a picture: one curve per importance.

python -m benchmarks.importance_plot --rows importance.json --picture curves.png
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from benchmarks.importance.rows import Row

__all__ = ["main", "plot"]

STYLES = {"jaxcompress": "-o", "torch-pruning": ":s"}


def main(rows: Path, picture: Path, methods: tuple[str, ...] = ()) -> None:
    """Draw a file of `benchmarks.importance`.

    Args:
        rows: the file.
        picture: where it goes.
        methods: which, of either library; default all of two ratios or more.
    """
    found = [Row(**row) for row in json.loads(rows.read_text())["rows"]]
    plot(picture, [row for row in found if not methods or row.method in methods])


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw means over seeds, augmented re-estimation: ours solid, Torch-Pruning's dotted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds = dict.fromkeys((row.library, row.method) for row in rows if row.groups == "internal")
    for library, method in kinds:
        own = [row for row in rows if row.key[:3] == (library, method, "internal")]
        ratios = sorted({row.ratio for row in own})
        if len(ratios) < 2:
            continue
        means = [np.mean([r.test["augmented"] for r in own if r.ratio == x]) for x in ratios]
        label = method if library == "jaxcompress" else f"Torch-Pruning: {method}"
        axes.plot(100 * np.array(ratios), means, STYLES[library], label=label, markersize=3)
    axes.set_xlabel("FLOPs that stay, %")
    axes.set_ylabel("test accuracy, %, no fine-tuning")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
