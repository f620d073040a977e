"""The common fields of a report's rows, printed as a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.report import Row, plain

__all__ = ["table"]


def table(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the common fields of the rows; a column that no row measured is left out.

    Example:
        >>> table([Row("teacher", accuracy=0.9, flops=2000)], Console(quiet=True))
    """
    values = [row.to_json() for row in rows]
    columns = [name for name in SHOWN if any(row[name] is not None for row in values)]
    grid = Table("network", *(SHOWN[name].heading for name in columns), box=box.SIMPLE)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in values:
        shown = ["-" if row[n] is None else SHOWN[n].text(plain(row[n])) for n in columns]
        grid.add_row(row["name"], *shown)
    # Where the output goes to a file, a terminal's default width would cut the columns.
    console = console or Console(width=None if sys.stdout.isatty() else 110)
    console.print(grid)


class _Column(NamedTuple):
    heading: str
    text: Callable[[Any], str]


SHOWN = {
    "accuracy": _Column("accuracy", lambda x: f"{x:.2%}"),
    "num_params": _Column("params", lambda x: f"{x:,}"),
    "num_nonzero": _Column("non-zero", lambda x: f"{x:,}"),
    "flops": _Column("MFLOPs", lambda x: f"{x / 1e6:,.2f}"),
    "bytes": _Column("kB on disk", lambda x: f"{x / 1e3:,.0f}"),
    "latency_ms": _Column("ms", lambda x: f"{x:,.1f}"),
    "seconds": _Column("seconds", lambda x: f"{x:,.0f}"),
}
