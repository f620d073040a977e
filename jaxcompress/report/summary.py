"""The summary: a sentence per network, what it is, how much smaller, how accurate; and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxcompress.annotations import Json
from jaxcompress.report.comparison import on_a_front
from jaxcompress.report.formats import MEASURES, change, plain, shown
from jaxcompress.report.html import Markup, element, join
from jaxcompress.report.runs import Run, quality
from jaxcompress.report.tables import Cell, table

__all__ = ["summary"]

MOST_SENTENCES = 12
"""Of a run; where it has more networks, those on a front of accuracy and cost are told."""
SAID = ("num_params", "num_nonzero", "flops", "bytes", "latency_ms")


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
        rows = [row for row in rows if row is run.original or row["name"] in front]
        rows = rows[:MOST_SENTENCES]
    left_out = len(run.rows) - len(rows)
    note = f"{left_out} further networks are in the table." if left_out else None
    told = element("ul", [element("li", sentence(row, run.original)) for row in rows])
    return join([told, element("p", note) if note else None])


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
        return f"{_listed(said)} than {original['name']}"
    return f"as large as {original['name']}" if known else ""


def _goodness(row: Mapping[str, Json], original: Mapping[str, Json] | None) -> str:
    name = quality(row)
    if name is None:
        return ""
    count = row.get("count")
    number = f" of {plain(count)} test examples" if isinstance(count, int | float) else ""
    right = f"{shown(name, row[name])}{number} are right"
    said = right if name == "accuracy" else f"{row['metric']} {shown(name, row[name])}"
    if original is None or original.get(name) is None:
        return said
    return f"{said} ({original['name']}: {shown(name, original[name])})"


def _kind(details: Mapping[str, Sequence[Json]]) -> str:
    """Say what was done to a network, as far as its report tells."""
    said = []
    if groups := details.get("groups"):
        after, before = (sum(group[key] for group in groups) for key in ("after", "before"))
        said.append(f"{after:,} of {before:,} channels left")
    if ranks := details.get("ranks"):
        said.append(f"{len(ranks)} kernels in two factors")
    if leaves := details.get("sparsity"):
        zeros = 1 - sum(x["nonzero"] for x in leaves) / (sum(x["size"] for x in leaves) or 1)
        said.append(f"{zeros:.1%} zeros in {len(leaves)} leaves".replace("%", " %"))
    return f" ({', '.join(said)})" if said else ""


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
    return table("All networks", headings, cells, sorts=True)
