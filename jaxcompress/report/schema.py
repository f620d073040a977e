"""What a report holds: an object of one experiment, and a row per network.

`report.json` is an object of

* `experiment`: string, the experiment's name;
* `config`: object, every setting it ran with;
* `environment`: object of `device` (string), `versions` (object, package to version) and `commit`
  (string or null);
* `rows`: array of objects, each with the fields of `FIELDS` and any further ones;
* `stages`, where there are any: array of objects of `STAGE`.

A field that was not measured is null; accuracies are fractions. Of the further fields of a row,
`score` (number) with `metric` (string: what it is) and `lower_is_better` (true or false) stand in
for an accuracy, and `details` is an object of any of `DETAILS`, each an array of objects.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from jaxcompress.annotations import Json

__all__ = ["DETAILS", "FIELDS", "STAGE", "problems"]

Kinds = Mapping[str, tuple[type, ...]]

NOTHING = type(None)
NUMBER = (float, int)

FIELDS: Kinds = MappingProxyType(
    {
        "name": (str,),
        "accuracy": NUMBER,
        "num_params": (int,),
        "num_nonzero": (int,),
        "flops": NUMBER,
        "bytes": (int,),
        "latency_ms": NUMBER,
        "seconds": NUMBER,
    }
)
"""Of every row; all but the name may be null."""

STAGE: Kinds = MappingProxyType(
    {"name": (str,), "seconds": NUMBER, "device_hours": NUMBER, "cpu_seconds": NUMBER}
)
"""Of a stage; what was not measured may be missing, but for name and seconds."""

DETAILS: Mapping[str, Kinds] = MappingProxyType(
    {
        "groups": {"name": (str,), "before": (int,), "after": (int,)},
        "sparsity": {"path": (str,), "size": (int,), "nonzero": (int,)},
        "ranks": {
            "site": (str,),
            "form": (str,),
            "full": (int,),
            "rank": (int,),
            "spectrum": (list,),
        },
        "frozen": {"reason": (str,), "source": (str,), "axes": (list,)},
        "curves": {"name": (str,), "epochs": (list,), "values": (list,)},
    }
)
"""Widths of groups; values of leaves; ranks of sites with `[rank, singular value]` pairs; axes that
cannot shrink, and why; a metric by epoch."""

ORDERED = (("after", "before"), ("nonzero", "size"), ("rank", "full"))


def problems(report: Json) -> list[str]:
    """Say what is wrong with a report, by place; nothing where it is right.

    Example:
        >>> problems({"experiment": "demo", "config": {}, "rows": []})
        ['environment is missing']
    """
    top: Kinds = {"experiment": (str,), "config": (dict,), "environment": (dict,), "rows": (list,)}
    wrong = wrong_types(report, top)
    if wrong:
        return wrong
    environment: Kinds = {"device": (str,), "versions": (dict,), "commit": (str, NOTHING)}
    wrong = [f"environment: {w}" for w in wrong_types(report["environment"], environment)]
    wrong += _each("rows", report["rows"], _row)
    names = [row.get("name") for row in report["rows"] if isinstance(row, dict)]
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    wrong += [f"rows: two are named {name!r}" for name in repeated]
    return wrong + _each("stages", report.get("stages", []), _stage)


def wrong_types(value: Json, kinds: Kinds) -> list[str]:
    """Say which fields of an object are missing or of another type."""
    if not isinstance(value, dict):
        return [f"an object is expected, not {type(value).__name__}"]
    missing = [f"{name} is missing" for name in kinds if name not in value]
    return missing + [
        f"{name} is {type(value[name]).__name__}"
        for name, kind in kinds.items()
        if name in value and not _is(value[name], kind)
    ]


def _is(value: Json, kind: tuple[type, ...]) -> bool:
    """Tell whether a value is of a kind; true and false are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _each(place: str, values: Json, check: Callable[[Json], list[str]]) -> list[str]:
    if not isinstance(values, list):
        return [f"{place} is {type(values).__name__}"]
    return [f"{place}[{n}]: {problem}" for n, x in enumerate(values) for problem in check(x)]


def _row(row: Json) -> list[str]:
    optional = {name: (*kinds, NOTHING) for name, kinds in FIELDS.items() if name != "name"}
    wrong = wrong_types(row, {"name": (str,), **optional})
    if wrong:
        return wrong
    numbers = {k: x for k, x in row.items() if isinstance(x, NUMBER)}
    wrong = [f"{k} is {x}; write null" for k, x in numbers.items() if not math.isfinite(x)]
    wrong += [f"{k} is negative" for k in FIELDS if k in numbers and numbers[k] < 0]
    if (row["accuracy"] or 0) > 1:
        wrong.append(f"accuracy is {row['accuracy']}; write a fraction, not per cent")
    if row.get("score") is not None:
        wrong += wrong_types(row, {"score": NUMBER, "metric": (str,)})
    return wrong + [f"details: {problem}" for problem in _details(row.get("details", {}))]


def _stage(stage: Json) -> list[str]:
    needed = {name: STAGE[name] for name in ("name", "seconds")}
    wrong = wrong_types(stage, needed)
    if wrong:
        return wrong
    given = {name: kind for name, kind in STAGE.items() if name in stage}
    return wrong_types(stage, given) + _not_finite(stage)


def _details(details: Json) -> list[str]:
    if not isinstance(details, dict):
        return [f"an object is expected, not {type(details).__name__}"]
    wrong = [f"{name} is none of {', '.join(DETAILS)}" for name in details if name not in DETAILS]
    for name, kinds in DETAILS.items():
        wrong += _each(name, details.get(name, []), functools.partial(_entry, kinds=kinds))
    return wrong


def _entry(entry: Json, kinds: Kinds) -> list[str]:
    wrong = wrong_types(entry, kinds)
    if wrong:
        return wrong
    wrong = _not_finite(entry)
    for less, more in ORDERED:
        if less in kinds and not 0 <= entry[less] <= entry[more]:
            wrong.append(f"{less} is {entry[less]}, of {entry[more]}")
    if "spectrum" in kinds and not all(_is_pair(pair) for pair in entry["spectrum"]):
        wrong.append("spectrum is no list of [rank, singular value]")
    if "axes" in kinds and not all(isinstance(axis, str) for axis in entry["axes"]):
        wrong.append("axes is no list of names")
    if "epochs" in kinds and not _is_curve(entry["epochs"], entry["values"]):
        wrong.append("epochs and values are no two lists of as many numbers")
    return wrong


def _not_finite(entry: Mapping[str, Json]) -> list[str]:
    return [
        f"{name} is {value}; write a finite number of at least 0"
        for name, value in entry.items()
        if isinstance(value, NUMBER) and not 0 <= value < math.inf
    ]


def _is_pair(pair: Json) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(_is_finite, pair))


def _is_curve(epochs: Sequence[Json], values: Sequence[Json]) -> bool:
    return len(epochs) == len(values) and all(map(_is_finite, [*epochs, *values]))


def _is_finite(value: Json) -> bool:
    return _is(value, NUMBER) and math.isfinite(value)
