"""Reading the reports of runs, each under a name of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxcompress.annotations import Json
from jaxcompress.report.schema import problems

__all__ = ["Run", "read_runs", "runs_of"]


class Run(NamedTuple):
    """One report on a page.

    Attributes:
        name: of the run, unique on the page.
        number: its place on the page, from 0.
        report: as `jaxcompress.report.schema` says.
    """

    name: str
    number: int
    report: Json

    @property
    def rows(self) -> list[Json]:
        """The networks."""
        return self.report["rows"]

    @property
    def task(self) -> str:
        """What networks must share to be compared: the data, as far as the settings name it."""
        known = (self.report["config"].get(name) for name in ("dataset", "task"))
        named = (value for value in known if isinstance(value, str))
        return next(named, self.report["experiment"])

    @property
    def original(self) -> Json | None:
        """The first row, if nothing costs more: what the others are compared with."""
        first, *others = self.rows or [None]
        if first is None or quality(first) is None:
            return None
        costs = ("flops", "num_params")
        dearer = [r for r in others for c in costs if (r[c] or 0) > (first[c] or float("inf"))]
        return None if dearer or first["flops"] is None else first


def quality(row: Mapping[str, Json]) -> str | None:
    """Return the field that says how good a network is.

    Example:
        >>> quality({"accuracy": 0.9}), quality({"accuracy": None})
        ('accuracy', None)
    """
    return next((name for name in ("accuracy", "score") if row.get(name) is not None), None)


def examples(row: Mapping[str, Json]) -> float | None:
    """Return how many test examples a row was judged by, where it tells.

    Example:
        >>> examples({"count": 360}), examples({})
        (360, None)
    """
    count = row.get("count")
    return count if isinstance(count, int | float) and not isinstance(count, bool) else None


def runs_of(reports: Mapping[str, Json]) -> list[Run]:
    """Return runs by name.

    Raises:
        ValueError: naming all that is wrong with any of the reports.

    Example:
        >>> runs_of({"a": {}})
        Traceback (most recent call last):
            ...
        ValueError: a page shows reports that follow jaxcompress.report.schema, but a: experiment \
is missing, config is missing, environment is missing, rows is missing; write them anew
    """
    wrong = {name: them for name, report in reports.items() if (them := problems(report))}
    if wrong or not reports:
        listed = "; ".join(f"{name}: {', '.join(them)}" for name, them in wrong.items())
        raise ValueError(
            "a page shows reports that follow jaxcompress.report.schema, but "
            f"{listed or 'there is none'}; write them anew"
        )
    return [Run(name, number, report) for number, (name, report) in enumerate(reports.items())]


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Read the reports of working folders.

    Args:
        paths: folders that hold a `report.json`, or files of the same kind.

    Raises:
        FileNotFoundError: naming all paths where there is none.
        ValueError: if a file is no JSON, or breaks the schema.
    """
    files = [path if path.is_file() else path / "report.json" for path in map(Path, paths)]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"a page is made of reports, but there is no {', no '.join(missing)}; give folders "
            "in which an experiment has finished"
        )
    return runs_of(dict(zip(_names(files), map(_read, files), strict=True)))


def _read(file: Path) -> Json:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"a report is JSON, but {file} is not ({error}); write it anew") from error


def _names(files: Iterable[Path]) -> list[str]:
    """Name each run by the end of its path, as long as it takes to tell them apart."""
    parts = [
        (*file.resolve().parent.parts, *([] if file.name == "report.json" else [file.stem]))
        for file in files
    ]
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(part[-1:])} ({number + 1})" for number, part in enumerate(parts)]
