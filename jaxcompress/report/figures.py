"""Figures: pictures, their legend as text beside them, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxcompress.report.html import Markup, element
from jaxcompress.report.scatter import STYLES, mark

__all__ = ["figure", "folded", "legend"]


def figure(
    name: str,
    pictures: Sequence[Markup],
    data: Markup,
    *,
    note: str = "",
    small: bool = False,
    key: object = None,
) -> Markup:
    """Return a figure.

    Args:
        name: what it shows.
        pictures: one or several beside each other.
        data: the table of the same numbers.
        note: how to read it.
        small: whether many pictures stand in a row.
        key: what tells colours apart, beside the pictures so that it covers nothing.

    Example:
        >>> figure("Widths", [], Markup("<table></table>")).startswith("<figure><figcaption>")
        True
    """
    sizes = "pictures small" if small else "pictures"
    drawn = element("div", pictures, class_=sizes) if len(pictures) > 1 else pictures
    caption = element("figcaption", name, f": {note}" if note else None)
    return element("figure", caption, key, drawn, folded(f"Numbers: {name}", data))


def folded(name: str, *content: object) -> Markup:
    """Return what is shown when its name is clicked."""
    return element("details", element("summary", name), content)


def legend(entries: Iterable[tuple[int, str]]) -> Markup:
    """Return what marks and colours mean, as a list.

    Args:
        entries: numbers of marks, and names.
    """
    items = []
    for number, name in entries:
        shape = mark(number, 6, 6, False)
        key = element("svg", shape, viewBox="0 0 12 12", class_="key", aria_hidden="true")
        items.append(element("li", key, name, class_=f"run{number % STYLES}"))
    return element("ul", items, class_="legend")
