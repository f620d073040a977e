"""Tables that a screen reader can read out, a phone can show, and a click can sort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxcompress.annotations import Json
from jaxcompress.report.html import Markup, element, join

__all__ = ["Cell", "facts", "table"]

MANY_COLUMNS = 4
"""With as many, a phone shows a row as a card."""


class Cell(NamedTuple):
    """What stands in a table.

    Attributes:
        text: as it is shown.
        value: the number that it shows, by which rows are sorted; None for no number.
    """

    text: object
    value: float | None = None


def table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, sorts: bool = False
) -> Markup:
    """Return a table whose first column names its rows.

    Args:
        caption: what it holds.
        headings: of the columns.
        rows: their cells, as many as headings.
        sorts: whether a click on a heading sorts it.

    Example:
        >>> made = table("Sizes", ["name", "bytes"], [[Cell("a"), Cell("8 B", 8)]])
        >>> '<td class="number" data-value="8">8 B</td>' in made
        True
    """
    rows = list(rows)
    cards = len(headings) >= MANY_COLUMNS
    # A card is no table to a browser's style, which takes its roles away; they are said again.
    role = (lambda name: name) if cards else (lambda name: None)
    numbers = [any(row[n].value is not None for row in rows) for n in range(len(headings))]
    classes = ["number" if is_number else None for is_number in numbers]
    head = [
        element("th", name, scope="col", role=role("columnheader"), class_=class_)
        for name, class_ in zip(headings, classes, strict=True)
    ]
    columns = list(zip(headings, classes, strict=True))
    body = [element("tr", _cells(cells, columns, cards), role=role("row")) for cells in rows]
    names = " ".join(["cards"] * cards + ["sorts"] * sorts) or None
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", head, role=role("row")), role=role("rowgroup")),
        element("tbody", body, role=role("rowgroup")),
        class_=names,
        role=role("table"),
    )


def _cells(cells: Sequence[Cell], columns: Sequence[tuple[str, str | None]], cards: bool) -> Markup:
    first, *rest = cells
    head = element("th", first.text, scope="row", role="rowheader" if cards else None)
    others = [
        element(
            "td",
            cell.text,
            class_=class_,
            data_value=cell.value,
            data_label=heading if cards else None,
            role="cell" if cards else None,
        )
        for cell, (heading, class_) in zip(rest, columns[1:], strict=True)
    ]
    return join([head, *others])


def facts(pairs: Iterable[tuple[str, Json]]) -> Markup:
    """Return names and what they stand for.

    Example:
        >>> facts([("seed", 0)])
        '<dl><div><dt>seed</dt><dd>0</dd></div></dl>'
    """
    return element(
        "dl", [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    )
