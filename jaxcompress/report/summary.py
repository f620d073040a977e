"""The summary: a sentence per network, what it is, how much smaller, how accurate; and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxcompress.annotations import Json
from jaxcompress.report.comparison import on_a_front
from jaxcompress.report.figures import folded
from jaxcompress.report.formats import MEASURES, change, plain, shown
from jaxcompress.report.html import Markup, element, join
from jaxcompress.report.runs import Run, examples, quality
from jaxcompress.report.tables import Cell, table

__all__ = ["summary"]

MOST_SENTENCES = 6
"""Of a run; of more networks, some on a front of accuracy and cost are told."""
MOST_OPEN = 12
"""Rows of a table that is shown at once: on a phone each is as high as a card."""
SAID = ("num_params", "num_nonzero", "flops", "bytes")


def summary(runs: Sequence[Run]) -> Markup:
    """Return the first section of a page."""
    parts = []
    for run in runs:
        if len(runs) > 1:
            parts.append(element("h3", run.name))
        parts.append(_sentences(run))
    return element(
        "section",
        element("h2", "Summary", id="summary"),
        parts,
        _table(runs),
        aria_labelledby="summary",
    )


def _sentences(run: Run) -> Markup:
    rows = run.rows
    if len(rows) > MOST_SENTENCES:
        front = on_a_front(run)
        best = [row for row in rows if row["name"] in front and row is not run.original]
        first = [run.original] if run.original else []
        rows = [*first, *_spread(best, MOST_SENTENCES - len(first))]
    told = element("ul", [element("li", sentence(row, run.original)) for row in rows])
    left_out = len(run.rows) - len(rows)
    note = f"{left_out} further networks are in the table." if left_out else None
    return join([told, element("p", note, class_="note") if note else None])


def _spread(rows: Sequence[Json], count: int) -> list[Json]:
    """Return at most so many, evenly spread from the cheapest to the dearest."""
    by_cost = sorted(rows, key=lambda row: row["flops"] or row["num_params"] or 0)
    places = [round(n * (len(by_cost) - 1) / max(count - 1, 1)) for n in range(count)]
    return [by_cost[place] for place in dict.fromkeys(places)] if by_cost else []


def sentence(row: Mapping[str, Json], original: Mapping[str, Json] | None) -> Markup:
    """Say what a network is, how much smaller than the original, and how accurate."""
    of_itself = original is None or row is original
    costs = _costs(row) if of_itself or original is None else _changes(row, original)
    parts = [part for part in (costs, _goodness(row, None if of_itself else original)) if part]
    kind = ", the original" if row is original else _kind(row.get("details", {}))
    told = "; ".join(parts) or "nothing was measured"
    return join([element("strong", row["name"]), kind, ": ", told, "."])


def _costs(row: Mapping[str, Json]) -> str:
    known = [name for name in ("num_params", "flops", "bytes", "latency_ms") if row[name]]
    words = {"num_params": " parameters", "bytes": " on disk", "latency_ms": " a call"}
    return _listed([shown(name, row[name]) + words.get(name, "") for name in known])


def _changes(row: Mapping[str, Json], original: Mapping[str, Json]) -> str:
    known = [name for name in SAID if row[name] is not None and original[name]]
    changes = {name: change(row[name], original[name]) for name in known}
    if changes.get("num_nonzero") == changes.get("num_params"):
        changes.pop("num_nonzero", None)
    said = [f"{text} {MEASURES[name].words}" for name, text in changes.items() if text]
    if said:
        return _listed(said)
    return f"as large as {original['name']}" if known else ""


def _goodness(row: Mapping[str, Json], original: Mapping[str, Json] | None) -> str:
    name = quality(row)
    if name is None:
        return ""
    count = examples(row)
    number = "" if count is None else f" of {plain(count)} test examples"
    if name == "score":
        return f"{row['metric']} {shown(name, row[name])}"
    right = f"{shown(name, row[name])}{number} are right"
    if original is None or original["accuracy"] is None or examples(original) != count:
        return right
    points = round(100 * (row["accuracy"] - original["accuracy"]), 2)
    below = f"{abs(points):.2f} points {'below' if points < 0 else 'above'}"
    return f"{right}, {below if points else 'as many as'} {original['name']}"


def _kind(details: Mapping[str, Sequence[Json]]) -> str:
    """Say what was done to a network, as far as its report tells."""
    said = []
    if groups := details.get("groups"):
        after, before = (sum(group[key] for group in groups) for key in ("after", "before"))
        said.append(f"{after:,} of {before:,} channels left")
    if ranks := details.get("ranks"):
        said.append(f"{_counted(len(ranks), 'kernel', 'kernels')} in two factors")
    if leaves := details.get("sparsity"):
        zeros = 1 - sum(x["nonzero"] for x in leaves) / (sum(x["size"] for x in leaves) or 1)
        said.append(
            f"{zeros:.1%} zeros in {_counted(len(leaves), 'leaf', 'leaves')}".replace("%", " %")
        )
    return f" ({', '.join(said)})" if said else ""


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _table(runs: Sequence[Run]) -> Markup:
    """Return all networks with what any of them was measured for."""
    rows = [(run, row) for run in runs for row in run.rows]
    names = [n for n in MEASURES if any(row.get(n) is not None for _, row in rows)]
    several = ["run"] if len(runs) > 1 else []
    headings = ["network", *several, *(MEASURES[name].heading for name in names)]
    cells = [
        [
            Cell(row["name"]),
            *(Cell(run.name) for _ in several),
            *(Cell(shown(name, row.get(name)), row.get(name)) for name in names),
        ]
        for run, row in rows
    ]
    made = table("All networks", headings, cells, sorts=True)
    return folded(f"Table of all {len(rows)} networks", made) if len(rows) > MOST_OPEN else made
