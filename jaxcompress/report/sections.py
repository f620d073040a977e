"""The section on one run: what was done to its networks, how they were made, and with what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jaxcompress.annotations import Json
from jaxcompress.report.bars import Bar, bars
from jaxcompress.report.changes import changes
from jaxcompress.report.figures import figure, folded, legend
from jaxcompress.report.formats import plain, seconds
from jaxcompress.report.html import Markup, element, join
from jaxcompress.report.lines import curve
from jaxcompress.report.runs import Run
from jaxcompress.report.scatter import STYLES
from jaxcompress.report.schema import FIELDS
from jaxcompress.report.tables import Cell, facts, table

__all__ = ["run_section"]


def run_section(run: Run) -> Markup:
    """Return all that a report tells beside the comparison of its networks."""
    name = f"run{run.number + 1}"
    parts = {
        "What was changed": changes(run.rows),
        "Training": _training(run.rows),
        "Stages and their cost": _stages(run.report),
        "Further figures": _further(run.rows),
        "Settings and environment": [_settings(run.report), _environment(run.report)],
    }
    shown = [join([element("h3", title), made]) for title, made in parts.items() if made]
    heading = element("h2", f"Run: {run.name}", id=name)
    return element("section", heading, shown, aria_labelledby=name)


def _training(rows: Sequence[Json]) -> list[Markup]:
    """Return one picture per metric, with a line per network."""
    metrics: dict[str, dict[str, Json]] = {}
    for row in rows:
        for entry in row.get("details", {}).get("curves", []):
            if entry["epochs"]:
                metrics.setdefault(entry["name"], {})[row["name"]] = entry
    return [_curves(metric, by_name) for metric, by_name in metrics.items()]


def _curves(metric: str, by_name: Mapping[str, Json]) -> Markup:
    title = metric.replace("_", " ").capitalize()
    drawn = {
        name: (list(zip(entry["epochs"], entry["values"], strict=True)), number % STYLES)
        for number, (name, entry) in enumerate(by_name.items())
    }
    rows = [
        [Cell(name), Cell(plain(epoch), epoch), Cell(plain(value), value)]
        for name, (pairs, _) in drawn.items()
        for epoch, value in pairs
    ]
    key = legend(enumerate(by_name)) if len(by_name) > 1 else None
    label = f"{title} by epoch of {', '.join(by_name)}"
    data = table(f"{title} by epoch", ["network", "epoch", metric], rows)
    return figure(label, [curve(label, metric, drawn)], data, key=key)


def stages_of(report: Mapping[str, Json]) -> list[Json]:
    """Return the stages; reports of before this field have them among their settings."""
    known = report.get("stages")
    settings = report["config"].get("stages")
    if known is not None or not isinstance(settings, dict):
        return known or []
    named = {name: facts for name, facts in settings.items() if isinstance(facts, dict)}
    timed = {n: f for n, f in named.items() if isinstance(f.get("seconds"), int | float)}
    return [{"name": name, **facts} for name, facts in timed.items()]


def _stages(report: Mapping[str, Json]) -> Markup | None:
    stages = stages_of(report)
    if not stages:
        return None
    drawn = [Bar(s["name"], s["seconds"], None, seconds(s["seconds"])) for s in stages]
    known = [n for n in ("device_hours", "cpu_seconds") if all(n in s for s in stages)]
    rows = [
        [
            Cell(stage["name"]),
            Cell(seconds(stage["seconds"]), stage["seconds"]),
            *(Cell(plain(stage[name]), stage[name]) for name in known),
        ]
        for stage in stages
    ]
    title = f"Time of each stage, {seconds(sum(stage['seconds'] for stage in stages))} in all"
    headings = ["stage", "time", *(name.replace("_", "-") for name in known)]
    data = table("Stages", headings, rows)
    return figure(title, bars(title, drawn), data)


def _further(rows: Sequence[Mapping[str, Json]]) -> Markup | None:
    """Return the fields that an experiment added to its rows."""
    known = {*FIELDS, "score", "metric", "lower_is_better", "details"}
    entries = [
        [Cell(row["name"]), Cell(name), Cell(_text(value), _number(value))]
        for row in rows
        for name, value in row.items()
        if name not in known and value is not None
    ]
    if not entries:
        return None
    return folded(
        "All further figures", table("Further figures", ["network", "figure", "value"], entries)
    )


def _number(value: Json) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _settings(report: Mapping[str, Json]) -> Markup | None:
    told = {"stages"} if stages_of(report) else set()
    config = {name: value for name, value in report["config"].items() if name not in told}
    return folded("Settings", facts(_flat(config))) if config else None


def _flat(settings: Mapping[str, Json], start: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{start}{name}.")
        else:
            yield f"{start}{name}", _text(value)


def _text(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(part)}" for name, part in value.items()) or "none"
    return plain(value, 6)


def _environment(report: Mapping[str, Json]) -> Markup:
    known = report["environment"]
    pairs = [("experiment", report["experiment"]), ("device", known["device"])]
    pairs += [("commit", known["commit"][:12])] if known["commit"] else []
    versions = [(name, _text(text)) for name, text in known["versions"].items() if text]
    return facts([*pairs, *versions])
