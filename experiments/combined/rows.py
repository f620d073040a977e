"""Points as rows: means over seeds, what dominates them, what sequences gain over their parts."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from experiments.combined.settings import Target, Way, steps_of
from experiments.common.report import Row
from jaxcompress.annotations import Json
from jaxcompress.report.pareto import dominators

__all__ = ["COSTS", "averaged", "gains", "marked"]

COSTS = ("bytes", "flops")
WHOLE = "whole"
Facts = Mapping[str, Any]
Known = Mapping[str, Sequence[Facts]]
Key = TypeVar("Key")


def averaged(known: Known, points: Sequence[tuple[Way, Target]], steps: Sequence[str]) -> list[Row]:
    """Return a row for the whole network and one for every point and step, means over seeds.

    Args:
        known: what the stages found, by the point's name, one for each seed, in one order.
        points: ways and their budgets.
        steps: that every network was measured after.
    """
    first = known[WHOLE][0]
    rows = [_row(WHOLE, known[WHOLE], steps[0], {"float32_bytes": first["float32_bytes"]})]
    for step in steps:
        rows += marked([rows[0], *(_point(known, *point, step) for point in points)])[1:]
    return gains(rows)


def _point(known: Known, way: Way, target: Target, step: str) -> Row:
    facts = known[f"{way}-{target.name}"]
    about = {"way": way, "kind": target.kind, "share": target.share, "parts": facts[0]["parts"]}
    cpu = [fact["cpu_seconds"] for fact in facts if "cpu_seconds" in fact]
    about |= {"cpu_seconds": statistics.fmean(cpu)} if cpu else {}
    return _row(f"{way}, {target.kind} {target.share:g}, {step}", facts, step, about)


def _row(name: str, facts: Sequence[Facts], step: str, about: dict[str, Json]) -> Row:
    measured = [fact[step] for fact in facts]
    means = {name: statistics.fmean(fact[name] for fact in measured) for name in measured[0]}
    if "rate" in measured[0]:
        about = {**about, "rates": [fact["rate"] for fact in measured]}
    accuracies = [fact["accuracy"] for fact in measured]
    return Row(
        name,
        accuracy=means["accuracy"],
        num_params=round(means["num_params"]),
        num_nonzero=round(means["num_nonzero"]),
        flops=means["flops"],
        bytes=round(means["bytes"]),
        extra={**about, "step": step, "accuracies": accuracies, "count": round(means["count"])},
    )


def marked(rows: Sequence[Row]) -> list[Row]:
    """Say of each row which other one costs no more and is no worse, by each cost; None on a front.

    Example:
        >>> small = Row("small", accuracy=0.8, bytes=5, flops=5)
        >>> large = Row("large", accuracy=0.7, bytes=9, flops=3)
        >>> [row.extra["dominated_by"]["bytes"] for row in marked([small, large])]
        [None, 'small']
    """
    above: dict[str, list[str | None]] = {}
    for cost in COSTS:
        best = dominators(
            [getattr(row, cost) for row in rows], [row.accuracy or 0.0 for row in rows]
        )
        above[cost] = [None if number is None else rows[number].name for number in best]
    return [
        dataclasses.replace(
            row, extra={**row.extra, "dominated_by": {cost: above[cost][i] for cost in COSTS}}
        )
        for i, row in enumerate(rows)
    ]


def gains(rows: Sequence[Row]) -> list[Row]:
    """Say of each sequence what it gains over the best of its methods alone, seed by seed.

    A sequence is compared at its own budget and step, and with the methods it is made of; the best
    is that of the highest mean. It is told only where all of them were measured.

    Example:
        >>> shared = {"kind": "bytes", "share": 0.1, "step": "taught"}
        >>> ways = {"prune": [0.5, 0.6], "sparse": [0.8, 0.7], "prune-sparse": [0.9, 0.7]}
        >>> rows = [
        ...     Row(way, accuracy=sum(x) / 2, extra={**shared, "way": way, "accuracies": x})
        ...     for way, x in ways.items()
        ... ]
        >>> told = gains(rows)[2].extra
        >>> told["best_part"], [round(gain, 2) for gain in told["gains"]]
        ('sparse', [0.1, 0.0])
    """
    alone = {_place(row, row.extra["way"]): row for row in rows if "way" in row.extra}
    return [_gained(row, alone) for row in rows]


def _place(row: Row, way: str) -> tuple[Any, ...]:
    return (way, *(row.extra[name] for name in ("kind", "share", "step")))


def _gained(row: Row, alone: Mapping[tuple[Any, ...], Row]) -> Row:
    methods = steps_of(row.extra.get("way", WHOLE))
    if len(methods) == 1:
        return row
    parts = [part for way in methods if (part := alone.get(_place(row, way))) is not None]
    # FLOPs have no masks; whatever else is missing would make the comparison another one.
    if len(parts) < len(methods):
        return row
    best = max(parts, key=lambda part: part.accuracy or 0.0)
    pairs = zip(row.extra["accuracies"], best.extra["accuracies"], strict=True)
    told = {"best_part": best.extra["way"], "gains": [mine - other for mine, other in pairs]}
    return dataclasses.replace(row, extra={**row.extra, **told})
