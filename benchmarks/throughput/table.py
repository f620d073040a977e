"""The rows and the table of `benchmarks.throughput`."""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table

from benchmarks.throughput.worker import TORCH
from jaxcompress.annotations import Json

__all__ = ["rows", "table"]


def rows(measured: list[dict[str, Any]]) -> list[dict[str, Json]]:
    """Turn measurements into one row per variant: images/s, spread, ratio to the best PyTorch.

    Example:
        >>> case = {"name": "resnet20", "half": False, "task": "eval", "batch": 100}
        >>> seconds = {"jaxcompress": {"jit": [1.0, 1.0]}, "PyTorch": {"eager": [2.0, 2.0]}}
        >>> first = {"jaxcompress": {"first": {"jit": 3.0}}, "PyTorch": {"first": {"eager": 2.0}}}
        >>> lines = rows([{"case": case, "frameworks": first, "seconds": seconds}])
        >>> [(row["variant"], row["rate"], row["ratio"]) for row in lines]
        [('jit', 100.0, 2.0), ('eager', 50.0, 1.0)]
    """
    lines = []
    for measurement in measured:
        case, seconds = measurement["case"], measurement["seconds"]
        best = min((statistics.median(s) for s in seconds[TORCH].values()), default=None)
        for framework, part in measurement["frameworks"].items():
            for variant, first in part["first"].items():
                row = {**case, "framework": framework, "variant": variant, "first": first}
                if not isinstance(first, str):
                    row |= _rates(seconds[framework][variant], case["batch"], best)
                lines.append(row)
    return lines


def _rates(seconds: list[float], batch: int, best: float | None) -> dict[str, float | None]:
    median = statistics.median(seconds)
    quarters = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median] * 3
    return {
        "rate": batch / median,
        "milliseconds": 1000 * median,
        "spread": (quarters[2] - quarters[0]) / 2 / median,
        "ratio": None if best is None else best / median,
    }


def table(lines: list[dict[str, Any]]) -> Table:
    """Lay the rows out; a variant that did not run shows why."""
    result = Table(title="images per second; ratio to the best PyTorch variant of the same run")
    for name in (
        "network",
        "task",
        "batch",
        "variant",
        "img/s",
        "±",
        "ms",
        "ratio",
        "first call, s",
    ):
        result.add_column(name, justify="left" if name in ("network", "variant") else "right")
    for row in lines:
        size = "half" if row["half"] else "dense"
        cells = [f"{row['name']} {size}", row["task"], str(row["batch"])]
        cells.append(f"{row['framework']} {row['variant']}")
        if "rate" in row:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            cells += [f"{row['rate']:.0f}", f"{row['spread']:.0%}", f"{row['milliseconds']:.1f}"]
            cells += [ratio, f"{row['first']:.1f}"]
        else:
            cells += ["", "", "", "", row["first"]]
        result.add_row(*cells)
    return result
