"""The frame of a picture with two axes: ticks, grid, titles, and where there is room for words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxcompress.report.html import Markup, element, join
from jaxcompress.report.scales import Scale

__all__ = ["HEIGHT", "LETTER", "WIDTH", "Box", "frame", "picture", "space_for"]

# A phone shows a picture of this width as large as it is: letters are never smaller than here.
WIDTH, HEIGHT = 360, 250
LETTER = 6.6
"""About how wide a letter is."""


class Box(NamedTuple):
    """A rectangle that something covers."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether two rectangles share a place."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)

    def inside(self, other: Box) -> bool:
        """Whether it lies in another."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


def picture(label: str, *shapes: object, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """Return a picture that a screen reader calls by its label.

    Example:
        >>> picture("nothing", height=10)
        '<svg viewBox="0 0 360 10" role="img" aria-label="nothing"></svg>'
    """
    return element("svg", *shapes, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def frame(
    across: Scale,
    up: Scale,
    titles: tuple[str, str],
    tick_texts: tuple[Callable[[float], str], Callable[[float], str]],
) -> Markup:
    """Return grid, ticks and titles of two axes.

    Args:
        across: from left to right.
        up: from bottom to top.
        titles: of both.
        tick_texts: how each writes its values.
    """
    left, right, bottom, top = across.start, across.end, up.start, up.end
    shapes: list[Markup] = []
    for value in up.ticks:
        y = up.place(value)
        shapes.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        text = tick_texts[1](value)
        shapes.append(element("text", text, class_="tick end", x=left - 5, y=y + 4))
    for value in _spaced(across, tick_texts[0]):
        x = across.place(value)
        shapes.append(element("line", class_="grid", x1=x, x2=x, y1=top, y2=bottom))
        text = tick_texts[0](value)
        shapes.append(element("text", text, class_="tick middle", x=x, y=bottom + 15))
    shapes.append(
        element("text", titles[0], class_="axis middle", x=(left + right) / 2, y=bottom + 33)
    )
    shapes.append(element("text", titles[1], class_="axis", x=2, y=top - 8))
    return join(shapes)


def _spaced(across: Scale, text: Callable[[float], str]) -> list[float]:
    """Leave out ticks whose words would touch those before."""
    kept: list[float] = []
    end = float("-inf")
    for value in across.ticks:
        half = LETTER * len(text(value)) / 2
        if across.place(value) - half > end:
            kept.append(value)
            end = across.place(value) + half + 6
    return kept


def space_for(x: float, y: float, text: str, taken: list[Box], inside: Box) -> Box | None:
    """Return where beside a point a text covers nothing; None where there is no such place.

    Example:
        >>> space_for(10, 10, "ab", [], Box(0, 0, 100, 20)).left
        17
    """
    return next(
        (
            box
            for box in _beside(x, y, LETTER * len(text))
            if box.inside(inside) and not any(box.overlaps(other) for other in taken)
        ),
        None,
    )


def _beside(x: float, y: float, width: float) -> Iterator[Box]:
    yield Box(x + 7, y - 7, x + 7 + width, y + 6)
    yield Box(x - 7 - width, y - 7, x - 7, y + 6)
    for left in (x - width / 2, x, x - width):
        yield Box(left, y - 20, left + width, y - 7)
        yield Box(left, y + 7, left + width, y + 20)
