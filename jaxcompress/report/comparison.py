"""Networks of one or several runs compared: accuracy, or a score, against each cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxcompress.annotations import Json
from jaxcompress.report.figures import figure, legend
from jaxcompress.report.formats import COSTS, MEASURES, Measure, plain, shown
from jaxcompress.report.html import Markup, element
from jaxcompress.report.pareto import dominators
from jaxcompress.report.runs import Run, examples, quality
from jaxcompress.report.scatter import Point, scatter
from jaxcompress.report.tables import Cell, table

__all__ = ["comparison", "on_a_front"]

HOW_TO_READ = (
    "Filled: on the front, which the line joins. Hollow: dominated, so another network costs no "
    "more and is no worse."
)


class _Kind(NamedTuple):
    """What networks of one picture share.

    Attributes:
        task: the data.
        quality: "accuracy" or "score".
        heading: what that is called.
        lower: whether lower is better.
        examples: how many were tested, where it is told: of others it is no comparison.
    """

    task: str
    quality: str
    heading: str
    lower: bool
    examples: float | None


def comparison(runs: Sequence[Run]) -> Markup | None:
    """Return the pictures of all networks that can be compared; None where there are none."""
    kinds = list(dict.fromkeys(_kind(run, row) for run in runs for row in run.rows))
    parts: list[Markup] = []
    for kind in kinds:
        figures = [] if kind is None else list(_figures(runs, kind))
        if figures and kind is not None:
            of = f"{plain(kind.examples)} test examples of " if kind.examples is not None else ""
            title = f"{kind.heading.capitalize()} on {of}{kind.task}"
            parts += [element("h3", title)] if len(kinds) > 1 else []
            parts += [*_legend(runs, kind), element("div", figures, class_="pictures")]
    if not parts:
        return None
    heading = element("h2", "Accuracy against cost", id="cost")
    return element("section", heading, parts, aria_labelledby="cost")


def on_a_front(run: Run) -> set[str]:
    """Return the names of the networks of a run that nothing dominates, at some cost."""
    kinds = dict.fromkeys(_kind(run, row) for row in run.rows)
    return {
        point.name
        for kind in kinds
        for cost in COSTS
        if kind is not None
        for point in _points([run], kind, cost)
        if point.dominated_by is None
    }


def _kind(run: Run, row: Mapping[str, Json]) -> _Kind | None:
    name = quality(row)
    if name is None:
        return None
    heading = name if name == "accuracy" else row["metric"]
    is_lower = name == "score" and bool(row.get("lower_is_better"))
    return _Kind(run.task, name, heading, is_lower, examples(row))


def _points(runs: Sequence[Run], kind: _Kind, cost: str) -> list[Point]:
    """Return the networks of a kind whose cost is known."""
    known = [
        (run, row)
        for run in runs
        for row in run.rows
        if row[cost] is not None and _kind(run, row) == kind
    ]
    sign = -1 if kind.lower else 1
    above = dominators(
        [row[cost] for _, row in known], [sign * row[kind.quality] for _, row in known]
    )
    several = len(runs) > 1
    names = [f"{run.name}: {row['name']}" if several else row["name"] for run, row in known]
    return [
        Point(
            row["name"],
            run.name if several else "",
            run.number,
            row[cost],
            row[kind.quality],
            None if best is None else names[best],
        )
        for (run, row), best in zip(known, above, strict=True)
    ]


def _figures(runs: Sequence[Run], kind: _Kind) -> Iterator[Markup]:
    by_cost = {cost: _points(runs, kind, cost) for cost in COSTS}
    qualities = [point.quality for points in by_cost.values() for point in points]
    sizes = by_cost["num_params"]
    for cost, points in by_cost.items():
        # One budget says nothing, and values that are all not zero say the same twice.
        if len({point.cost for point in points}) < 2 or (cost == "num_nonzero" and points == sizes):
            continue
        yield _figure(points, kind, MEASURES[cost], qualities)


def _figure(
    points: Sequence[Point], kind: _Kind, cost: Measure, qualities: Sequence[float]
) -> Markup:
    heading = "accuracy, %" if kind.quality == "accuracy" else kind.heading
    front = sum(point.dominated_by is None for point in points)
    name = f"{kind.heading.capitalize()} against {cost.words}"
    label = f"{name}: {len(points)} networks, {front} of them not dominated"
    several = any(point.run for point in points)
    headings = ["network", *["run"] * several, cost.heading, kind.heading, "dominated by"]
    rows = [
        [
            Cell(p.name),
            *[Cell(p.run)] * several,
            Cell(cost.text(p.cost), p.cost),
            Cell(shown(kind.quality, p.quality), p.quality),
            Cell(p.dominated_by or "nothing"),
        ]
        for p in points
    ]
    drawn = scatter(label, points, cost, kind.quality, heading, qualities)
    return figure(name, [drawn], table(name, headings, rows, sorts=True))


def _legend(runs: Sequence[Run], kind: _Kind) -> list[Markup]:
    of_kind = [run for run in runs if any(_kind(run, row) == kind for row in run.rows)]
    better = "lower is better. " if kind.lower else ""
    note = element("p", f"{better.capitalize()}{HOW_TO_READ}", class_="note")
    return [note, *([legend([(run.number, run.name) for run in of_kind])] if len(runs) > 1 else [])]
