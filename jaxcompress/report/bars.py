"""Bars of how much is left of something: channels of groups, values of leaves, ranks of sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxcompress.report.canvas import LETTER, WIDTH, picture
from jaxcompress.report.html import Markup, element, join

__all__ = ["Bar", "bars"]

ROW, BAR = 30, 10
LONGEST_CHUNK = 12
"""Bars of one picture; more are drawn beside each other, or below on a phone."""


class Bar(NamedTuple):
    """One bar.

    Attributes:
        name: what it is of.
        part: what is left.
        whole: of how much, drawn behind; None where there is no such thing.
        text: what stands at its end.
    """

    name: str
    part: float
    whole: float | None
    text: str


def bars(label: str, entries: Sequence[Bar]) -> list[Markup]:
    """Return pictures with a bar per entry, all to one scale.

    Example:
        >>> len(bars("groups", [Bar("a", 1, 2, "1 of 2")] * 20))
        2
    """
    most = max((max(bar.part, bar.whole or 0) for bar in entries), default=0) or 1
    count = -(-len(entries) // LONGEST_CHUNK)
    size = -(-len(entries) // max(count, 1))
    return [
        picture(
            label if count == 1 else f"{label}, part {number + 1} of {count}",
            _rows(entries[number * size : (number + 1) * size], most),
            height=ROW * len(entries[number * size : (number + 1) * size]),
        )
        for number in range(count)
    ]


def _rows(entries: Sequence[Bar], most: float) -> Markup:
    rows = []
    for number, bar in enumerate(entries):
        top, length = ROW * number, _fitting(bar)
        title = element("title", f"{bar.name}: {bar.text}")
        shapes = [
            element("text", length, class_="name", x=0, y=top + 11),
            element("text", bar.text, class_="tick end", x=WIDTH, y=top + 11),
        ]
        if bar.whole is not None:
            shapes.append(_rectangle("whole", top, bar.whole / most))
        shapes.append(_rectangle("part", top, bar.part / most))
        rows.append(element("g", title, shapes))
    return join(rows)


def _fitting(bar: Bar) -> str:
    """Return the name, cut in front where it would touch the text: leaves differ in their ends."""
    room = int(WIDTH / LETTER - len(bar.text) - 2)
    return bar.name if len(bar.name) <= room else "\N{HORIZONTAL ELLIPSIS}" + bar.name[1 - room :]


def _rectangle(name: str, top: float, share: float) -> Markup:
    width = round(WIDTH * share, 1)
    return element("rect", class_=name, x=0, y=top + 15, width=width, height=BAR, rx=1.5)
