"""Reports: one JSON file per experiment, one row per network.

What `report.json` holds is said by `jaxcompress.report.schema`; its `environment` is that of
`experiments.common.environment.describe`, and rows have further fields of their experiment.
`validate` checks all of this; `python -m jaxcompress.report WORKDIR...` shows it as a page.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxcompress as jc
from experiments.common.environment import describe
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Array, Function, Json
from jaxcompress.files import write_json
from jaxcompress.processes import by_first
from jaxcompress.report import plot_compression, write_page
from jaxcompress.report.schema import FIELDS, problems

__all__ = ["Row", "accuracy_line", "draw", "latency_ms", "plain", "validate", "write_report"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of an experiment; None is not measured.

    Attributes:
        name: what it is, unique within the report.
        accuracy: fraction of test images that are classified right.
        num_params: number of parameters.
        num_nonzero: how many of them are not zero.
        flops: per example, multiply-accumulates x 2 of convolutions and dot products.
        bytes: size of the network's artifact on disk.
        latency_ms: median time of one call, in milliseconds; the experiment says of what batch.
        seconds: wall-clock time it took to make the network.
        extra: further fields, written beside these.

    Example:
        >>> Row("teacher", accuracy=0.98).flops is None
        True
    """

    name: str
    accuracy: float | None = None
    num_params: int | None = None
    num_nonzero: int | None = None
    flops: float | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    seconds: float | None = None
    extra: dict[str, Json] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the row as `report.json` holds it.

        Raises:
            ValueError: if an extra field has the name of a field of `Row`.

        Example:
            >>> Row("student", flops=4, extra={"epochs": 2}).to_json()["epochs"]
            2
        """
        repeated = sorted(self.extra.keys() & FIELDS.keys())
        if repeated:
            raise ValueError(
                f"extra holds fields that a row does not have, but {self.name!r} gives {repeated} "
                "there; set them as fields of the row"
            )
        return {**{name: getattr(self, name) for name in FIELDS}, **self.extra}

    @classmethod
    def from_json(cls, value: Mapping[str, Array]) -> Row:
        """Return the row that `to_json` gave.

        Example:
            >>> Row.from_json(Row("student", flops=4, extra={"epochs": 2}).to_json()).extra
            {'epochs': 2}
        """
        known = {name: value[name] for name in FIELDS}
        return cls(**known, extra={k: x for k, x in value.items() if k not in FIELDS})


def write_report(
    workdir: str | os.PathLike[str],
    experiment: str,
    config: Json,
    rows: Sequence[Row],
    stages: Sequence[Json] = (),
) -> Path:
    """Write `report.json` into the folder `workdir`, whole or not at all, and return its path.

    Its page, `report.html`, is written beside it. The first of several processes writes both.

    Args:
        workdir: made where it does not exist.
        experiment: its name.
        config: a dataclass or dict of its settings; what JSON lacks (paths) is written as text.
        rows: one per network.
        stages: of the experiment, each with its `name`, `seconds` and what else was counted.

    Raises:
        ValueError: if the report breaks the schema, see `validate`.

    Example:
        >>> import tempfile
        >>> write_report(tempfile.mkdtemp(), "demo", {"seed": 0}, [Row("teacher")]).name
        'report.json'
    """
    settings = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)  # type: ignore[arg-type]
    report = {
        "experiment": experiment,
        "config": json.loads(json.dumps(settings, default=_portable)),
        "environment": describe(),
        "rows": [{name: plain(x) for name, x in row.to_json().items()} for row in rows],
    }
    report |= {"stages": list(stages)} if stages else {}
    validate(report)
    path = Path(workdir) / "report.json"
    by_first("writing the report", lambda: _write(path, report))
    return path


def _write(path: Path, report: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
    write_page(path.with_name("report.html"), [path.parent])


def draw(
    picture: Path, title: str, graph: jc.Graph, keep: Mapping[str, Array], rows: Sequence[Row]
) -> None:
    """Draw what is kept and what each network costs into the file `picture`."""
    values = [row.to_json() for row in rows]
    by_first("drawing", lambda: plot_compression(picture, title, graph, keep, values))


def _portable(value: Any) -> str:
    """Write a path without the folders of this machine."""
    return value.name if isinstance(value, Path) and value.is_absolute() else str(value)


def plain(value: Any) -> Json:
    """Return a NumPy or JAX scalar as a Python number, so that JSON can hold it.

    Example:
        >>> plain(jax.numpy.float32(0.5))
        0.5
    """
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def accuracy_line(row: Row) -> str:
    """Say how accurate a network is; its row counts the images as `count`.

    Example:
        >>> accuracy_line(Row("dense", accuracy=0.9, extra={"count": 100}))
        'dense: 90.00% of 100 test images'
    """
    return f"{row.name}: {row.accuracy:.2%} of {row.extra['count']} test images"


def validate(report: Json) -> None:
    """Check a report against the schema.

    Raises:
        ValueError: naming all offences at once.

    Example:
        >>> validate({"experiment": "demo", "config": {}, "rows": []})
        Traceback (most recent call last):
            ...
        ValueError: a report follows jaxcompress.report.schema, but: environment is missing
    """
    offences = problems(report)
    if offences:
        raise ValueError("a report follows jaxcompress.report.schema, but: " + "; ".join(offences))


def latency_ms(function: Function, *args: Any, repeats: int = 20) -> float:
    """Measure the median wall-clock time of a call, in milliseconds, with its result awaited.

    The first two calls, which may compile, do not count. Pass a jitted function.

    Example:
        >>> latency_ms(jax.numpy.square, jax.numpy.ones(3), repeats=3) > 0
        True
    """
    for _ in range(2):
        jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        watch = Stopwatch()
        jax.block_until_ready(function(*args))
        times.append(watch.seconds)
    return 1e3 * statistics.median(times)
