"""What a compression did to a network: channels, ranks, zeros, and what could not shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxcompress.annotations import Json
from jaxcompress.report.bars import Bar, bars
from jaxcompress.report.figures import figure, folded
from jaxcompress.report.formats import short
from jaxcompress.report.html import Markup, element
from jaxcompress.report.lines import spectrum
from jaxcompress.report.tables import Cell, table

__all__ = ["changes"]


def changes(rows: Sequence[Mapping[str, Json]]) -> list[Markup]:
    """Return figures of the details of all networks; what several share is shown once."""
    seen: list[Json] = []
    made: list[Markup] = []
    for row in rows:
        details = row.get("details", {})
        for name, draw in FIGURES.items():
            entries = details.get(name)
            if entries and (name, entries) not in seen:
                seen.append((name, entries))
                made.append(draw(row["name"], entries))
    return made


def _groups(name: str, entries: Sequence[Json]) -> Markup:
    title = f"Channels per group of {name}"
    drawn = [
        Bar(short(e["name"]), e["after"], e["before"], f"{e['after']} of {e['before']}")
        for e in entries
    ]
    rows = [
        [Cell(e["name"]), Cell(e["before"], e["before"]), Cell(e["after"], e["after"])]
        for e in entries
    ]
    data = table(title, ["group", "before", "after"], rows)
    note = "dark is what is left, light what was there"
    return figure(title, bars(title, drawn), data, note=note)


def _sparsity(name: str, entries: Sequence[Json]) -> Markup:
    title = f"Zeros per leaf of {name}"
    shares = [1 - e["nonzero"] / e["size"] if e["size"] else 0.0 for e in entries]
    drawn = [
        Bar(short(e["path"]), share, 1.0, f"{100 * share:.1f} % zeros")
        for e, share in zip(entries, shares, strict=True)
    ]
    rows = [
        [
            Cell(e["path"]),
            Cell(f"{e['size']:,}", e["size"]),
            Cell(f"{e['nonzero']:,}", e["nonzero"]),
        ]
        for e in entries
    ]
    data = table(title, ["leaf", "values", "not zero"], rows)
    return figure(title, bars(title, drawn), data, note="dark is the share that is zero")


def _ranks(name: str, entries: Sequence[Json]) -> Markup:
    title = f"Singular values and ranks of {name}"
    note = (
        "of each kernel that became two factors, by logarithms, down to 1/10,000 of the largest; "
        "the line is the rank that was chosen, what is shaded is kept"
    )
    pictures = [
        spectrum(short(e["site"]), e["spectrum"], e["rank"], e["full"])
        for e in entries
        if e["spectrum"]
    ]
    rows = [
        [Cell(e["site"]), Cell(e["form"]), Cell(e["full"], e["full"]), Cell(e["rank"], e["rank"])]
        for e in entries
    ]
    data = table(title, ["site", "form", "full rank", "rank"], rows)
    return figure(title, pictures, data, note=note, small=True)


def _frozen(name: str, entries: Sequence[Json]) -> Markup:
    """List what cannot shrink by reason; the names of the axes are folded."""
    items = [
        element(
            "li",
            element("strong", entry["reason"]),
            f" ({entry['source']})" if entry["source"] else None,
            folded(f"which: {len(entry['axes'])}", element("p", ", ".join(entry["axes"]))),
        )
        for entry in entries
    ]
    heading = element("h4", f"Axes of {name} that cannot shrink, and why")
    return element("div", heading, element("ul", items), class_="frozen")


FIGURES = {"groups": _groups, "ranks": _ranks, "sparsity": _sparsity, "frozen": _frozen}
