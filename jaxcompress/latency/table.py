"""`LatencyTable`: what each conv and dot of a network takes on one device, at a grid of widths."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcompress.annotations import Json
from jaxcompress.arguments import integer, require
from jaxcompress.files import write_json

__all__ = ["Grid", "LatencyTable", "load_table", "save_table"]


class Grid(NamedTuple):
    """What one operation takes as a function of its widths.

    Attributes:
        widths: of each axis that may shrink, in the order of `Operation.widths` (of a convolution
            its outputs, then its inputs), rising; the last is the whole.
        seconds: `float[widths of the first axis, ...]`, of one run.
    """

    widths: tuple[tuple[int, ...], ...]
    seconds: np.ndarray

    def at(self, widths: Sequence[int]) -> float:
        """Return the seconds at widths, each rounded up to the next of the grid; 0 at width 0.

        Example:
            >>> grid = Grid(((4, 8),), np.array([2.0, 3.0]))
            >>> [grid.at([n]) for n in (0, 3, 4, 5)]
            [0.0, 2.0, 2.0, 3.0]
        """
        if min(widths, default=1) == 0:
            return 0.0
        places = [int(np.searchsorted(k, n)) for k, n in zip(self.widths, widths, strict=True)]
        return float(self.seconds[tuple(places)])

    @property
    def whole(self) -> float:
        """Seconds at the full widths."""
        return float(self.seconds[(-1,) * self.seconds.ndim])


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """What each operation of a network takes alone, on one device.

    Attributes:
        device: on which it was measured, or for which it was compiled.
        how: "measured", or by what it was estimated.
        dtype: of the operands; several are joined by a comma.
        batch: examples of a call.
        sites: the grid of each operation, by `Operation.name`.

    Raises:
        ValueError: if the batch is no count, or a grid is not rising, has another shape than its
            seconds, or these are not finite and positive; all are named.

    Example:
        >>> table = LatencyTable("toy", "by hand", "float32", 1, {"a": Grid(((8,),), np.ones(1))})
        >>> print(table)
        1 operation on toy, by hand, float32, batch 1: 1,000,000 microseconds
          1,000,000 us  100.0 %  a: 8
    """

    device: str
    how: str
    dtype: str
    batch: int
    sites: Mapping[str, Grid]

    def __post_init__(self) -> None:
        """Refuse what is no table."""
        require(batch=integer(self.batch))
        wrong = [f"{name}: {text}" for name, grid in self.sites.items() if (text := _wrong(grid))]
        if wrong:
            raise ValueError(
                "a grid holds a positive time at each of rising widths, but " + "; ".join(wrong)
            )

    @property
    def seconds(self) -> float:
        """Of one run of each operation at its full widths."""
        return sum(grid.whole for grid in self.sites.values())

    def __str__(self) -> str:
        many = "" if len(self.sites) == 1 else "s"
        head = f"{len(self.sites)} operation{many} on {self.device}, {self.how}, {self.dtype}, "
        lines = [f"{head}batch {self.batch}: {1e6 * self.seconds:,.0f} microseconds"]
        for name, grid in self.sites.items():
            part = 100 * grid.whole / self.seconds
            widths = " x ".join(f"{knots[-1]}" for knots in grid.widths) or "fixed"
            lines.append(f"{1e6 * grid.whole:11,.0f} us  {part:5.1f} %  {name}: {widths}")
        return "\n".join(lines)


def _wrong(grid: Grid) -> str:
    shape = tuple(len(widths) for widths in grid.widths)
    if np.shape(grid.seconds) != shape:
        return f"{shape} widths and {np.shape(grid.seconds)} seconds"
    if any(min(widths, default=0) < 1 or (np.diff(widths) < 1).any() for widths in grid.widths):
        return f"widths {grid.widths}"
    if not (np.isfinite(grid.seconds) & (np.asarray(grid.seconds) > 0)).all():
        return "seconds that are not finite and positive"
    return ""


def save_table(path: str | os.PathLike[str], table: LatencyTable) -> None:
    """Write a table as JSON; operations of the same grid are written once.

    Example:
        >>> import tempfile
        >>> grid = Grid(((4, 8),), np.array([2.0, 3.0]))
        >>> file = Path(tempfile.mkdtemp()) / "table.json"
        >>> save_table(file, LatencyTable("toy", "by hand", "float32", 1, {"a": grid, "b": grid}))
        >>> load_table(file).sites["b"].seconds.tolist()
        [2.0, 3.0]
    """
    grids: dict[str, dict[str, Json]] = {}
    for name, grid in table.sites.items():
        content = {"widths": [list(w) for w in grid.widths], "seconds": grid.seconds.tolist()}
        grids.setdefault(json.dumps(content), {**content, "sites": []})["sites"].append(name)
    head = {"device": table.device, "how": table.how, "dtype": table.dtype, "batch": table.batch}
    write_json(path, {**head, "order": list(table.sites), "grids": list(grids.values())})


def load_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Read a table that `save_table` wrote.

    Raises:
        ValueError: if the file is none.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "table.json"
        >>> _ = file.write_text("{}")
        >>> load_table(file)
        Traceback (most recent call last):
            ...
        ValueError: a table of latencies holds 'device', which table.json lacks
    """
    name = Path(path).name
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"a table of latencies is JSON, but {name} is not ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"a table of latencies is a JSON object, but {name} holds a list or value")
    try:
        return _read(content)
    except KeyError as error:
        raise ValueError(f"a table of latencies holds {error}, which {name} lacks") from error
    except TypeError as error:
        raise ValueError(
            f"a table of latencies holds lists of widths and seconds, but {name} does not ({error})"
        ) from error


def _read(content: Mapping[str, Any]) -> LatencyTable:
    grids = {
        site: Grid(tuple(tuple(widths) for widths in one["widths"]), np.array(one["seconds"]))
        for one in content.get("grids", ())
        for site in one["sites"]
    }
    head = {name: content[name] for name in ("device", "how", "dtype", "batch")}
    return LatencyTable(**head, sites={site: grids[site] for site in content["order"]})
