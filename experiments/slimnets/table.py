"""The paper's numbers beside ours: means over seeds, relative accuracies, ratios, and the goal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.report import Row
from experiments.slimnets.rows import RECIPES, Recipe
from jaxcompress.files import atomic_file
from jaxcompress.processes import by_first

__all__ = ["CONSOLE", "GOAL", "averaged", "goal", "markdown", "show"]

CONSOLE = Console()
PAPER_TEACHER = RECIPES["teacher"].paper or 1.0
GOAL = {"relative_accuracy": 0.96, "fewer_params": 170.0, "fewer_bytes": 170.0}
HEADER = (
    "row", "paper", "rel.", "x", "ours", "rel.", "params", "non-zero", "x", "bytes", "x", "CPU s",
)  # fmt: skip


def averaged(
    by_name: Mapping[str, Sequence[Mapping[str, Any]]], recipes: Mapping[str, Recipe], dense: int
) -> list[Row]:
    """Average each row over its seeds; sizes are those of the first; rows without any are left out.

    Relative accuracies are to the teacher of the same seed, or to the paper's VGG-19 where the
    recipes have no teacher. Ratios are to `dense` parameters, and to their bytes in float32.
    """
    teachers = {row["seed"]: row["accuracy"] for row in by_name.get("teacher", ())}
    if "teacher" not in recipes:
        teachers = {row["seed"]: PAPER_TEACHER for rows in by_name.values() for row in rows}
    return [
        _averaged(name, rows, recipes[name], teachers, dense)
        for name, rows in by_name.items()
        if rows
    ]


def _averaged(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    recipe: Recipe,
    teachers: Mapping[int, float],
    dense: int,
) -> Row:
    accuracies = [row["accuracy"] for row in rows]
    pairs = [row["accuracy"] / teachers[row["seed"]] for row in rows if row["seed"] in teachers]
    first = rows[0]
    return Row(
        name=name,
        accuracy=statistics.mean(accuracies),
        **{key: first[key] for key in ("num_params", "num_nonzero", "flops", "bytes")},
        extra={
            "accuracy_std": statistics.stdev(accuracies) if len(rows) > 1 else None,
            "relative_accuracy": statistics.mean(pairs) if pairs else None,
            "seeds": [row["seed"] for row in rows],
            "accuracies": accuracies,
            "commits": sorted({str(row["environment"]["commit"]) for row in rows}),
            "cpu_seconds": statistics.mean(row["cpu_seconds"] for row in rows),
            "paper_accuracy": recipe.paper,
            "paper_fewer_params": recipe.paper_fewer,
            "fewer_params": dense / first["num_nonzero"],
            "fewer_bytes": 4 * dense / first["bytes"],
        },
    )


def cells(row: Row, paper_teacher: float) -> list[str]:
    """Return one line of the table, in the order of `HEADER`."""
    extra = row.extra
    paper, deviation, fewer = (
        extra[key] for key in ("paper_accuracy", "accuracy_std", "paper_fewer_params")
    )
    relative = extra["relative_accuracy"]
    return [
        row.name,
        "" if paper is None else f"{paper:.2%}",
        "" if paper is None else f"{paper / paper_teacher:.1%}",
        "" if fewer is None else f"{fewer:g}",
        f"{row.accuracy:.2%}" + ("" if deviation is None else f" ± {100 * deviation:.2f}"),
        "" if relative is None else f"{relative:.1%}",
        f"{row.num_params:,}",
        f"{row.num_nonzero:,}",
        f"{extra['fewer_params']:.1f}",
        f"{row.bytes:,}",
        f"{extra['fewer_bytes']:.1f}",
        f"{extra['cpu_seconds']:,.0f}",
    ]


def goal(rows: Sequence[Row]) -> str:
    """Say how far the rows are from `GOAL`: the best of those that are as small as it asks.

    Example:
        >>> sizes = {"fewer_params": 200.0, "fewer_bytes": 300.0, "relative_accuracy": 0.9}
        >>> print(goal([Row("small", accuracy=0.5, extra=sizes)]))
        Goal: 96 % of VGG-19's accuracy at 170x fewer non-zeros and 170x fewer bytes.
        small: 90.0 % at 200.0x and 300.0x. Missed by 6.0 points.
    """
    wanted = GOAL["relative_accuracy"]
    text = f"Goal: {wanted:.0%} of VGG-19's accuracy at ".replace("%", " %")
    text += "{fewer_params:.0f}x fewer non-zeros and {fewer_bytes:.0f}x fewer bytes.".format(**GOAL)
    small = [
        row
        for row in rows
        if row.extra["relative_accuracy"] is not None
        and all(row.extra[key] >= GOAL[key] for key in ("fewer_params", "fewer_bytes"))
    ]
    if not small:
        return text + "\nNo row is that small."
    best = max(small, key=lambda row: row.extra["relative_accuracy"])
    reached = best.extra["relative_accuracy"]
    verdict = "Reached" if reached >= wanted else f"Missed by {100 * (wanted - reached):.1f} points"
    sizes = "{fewer_params:.1f}x and {fewer_bytes:.1f}x".format(**best.extra)
    return f"{text}\n{best.name}: {100 * reached:.1f} % at {sizes}. {verdict}."


def show(rows: Sequence[Row], file: Path) -> None:
    """Print the table and the goal, and write both as Markdown."""
    grid = Table(*HEADER, box=box.SIMPLE)
    for column in grid.columns[1:]:
        column.justify = "right"
    lines = _lines(rows)
    for line in lines:
        grid.add_row(*line)
    CONSOLE.print(grid, width=None if CONSOLE.is_terminal else 150)
    CONSOLE.print(goal(rows))
    by_first("writing the table", lambda: _write(file, markdown(rows)))


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as stream:
        stream.write(text.encode())


def markdown(rows: Sequence[Row]) -> str:
    """Return the table and the goal as Markdown."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *_lines(rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n{goal(rows)}\n"


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    return [cells(row, PAPER_TEACHER) for row in rows]
