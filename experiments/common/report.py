"""Reports: one JSON file per experiment, one row per network.

`report.json` is an object of

* `experiment`: string, the experiment's name;
* `config`: object, every setting it ran with;
* `environment`: object of `device` (string), `versions` (object, package to version) and `commit`
  (string or null), see `experiments.common.environment.describe`;
* `rows`: array of objects, each with the fields of `Row` and any further ones of the experiment.

A field that was not measured is null; accuracies are fractions. `validate` checks all of this.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.common.environment import describe
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Array, Function, Json
from jaxcompress.files import write_json

__all__ = ["Row", "accuracy_line", "latency_ms", "plain", "validate", "write_report"]


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


FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "accuracy": (float, int),
    "num_params": (int,),
    "num_nonzero": (int,),
    "flops": (float, int),
    "bytes": (int,),
    "latency_ms": (float, int),
    "seconds": (float, int),
}


def write_report(
    workdir: str | os.PathLike[str], experiment: str, config: Json, rows: Sequence[Row]
) -> Path:
    """Write `report.json` into the folder `workdir`, whole or not at all, and return its path.

    Args:
        workdir: made where it does not exist.
        experiment: its name.
        config: a dataclass or dict of its settings; what JSON lacks (paths) is written as text.
        rows: one per network.

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
    validate(report)
    path = Path(workdir) / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
    return path


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
        ValueError: a report follows the schema of experiments.report, but: environment is missing
    """
    top = {"experiment": str, "config": dict, "environment": dict, "rows": list}
    offences = _wrong_types(report, top)
    if not offences:
        environment = {"device": str, "versions": dict, "commit": (str, type(None))}
        offences += [f"environment: {o}" for o in _wrong_types(report["environment"], environment)]
        for index, row in enumerate(report["rows"]):
            offences += [f"rows[{index}]: {offence}" for offence in _row_offences(row)]
        names = [row.get("name") for row in report["rows"] if isinstance(row, dict)]
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        offences += [f"rows: two are named {name!r}" for name in repeated]
    if offences:
        raise ValueError(
            "a report follows the schema of experiments.report, but: " + "; ".join(offences)
        )


def _wrong_types(value: Any, types: dict[str, Array]) -> list[str]:
    if not isinstance(value, dict):
        return [f"an object is expected, not {type(value).__name__}"]
    missing = [f"{name} is missing" for name in types if name not in value]
    return missing + [
        f"{name} is {type(value[name]).__name__}"
        for name, kind in types.items()
        if name in value and not isinstance(value[name], kind)
    ]


def _row_offences(row: Json) -> list[str]:
    optional = {name: (*kinds, type(None)) for name, kinds in FIELDS.items() if name != "name"}
    offences = _wrong_types(row, {"name": str, **optional})
    if offences:
        return offences
    numbers = {k: x for k, x in row.items() if isinstance(x, int | float)}
    offences = [f"{k} is {x}; write null" for k, x in numbers.items() if not math.isfinite(x)]
    offences += [f"{k} is negative" for k in FIELDS if k in numbers and numbers[k] < 0]
    if (row["accuracy"] or 0) > 1:
        offences.append(f"accuracy is {row['accuracy']}; write a fraction, not per cent")
    return offences


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
