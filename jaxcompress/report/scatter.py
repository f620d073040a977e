"""Accuracy against a cost: one mark per network, the front as a line, names where there is room."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxcompress.report.canvas import HEIGHT, WIDTH, Box, frame, picture, space_for
from jaxcompress.report.formats import Measure, prefixed, shown
from jaxcompress.report.html import Markup, element, join
from jaxcompress.report.scales import scale

__all__ = ["STYLES", "Point", "mark", "scatter"]

STYLES = 6
"""Shapes and colours of marks, then they repeat."""
LONGEST_NAME = 26
MOST_NAMED = 16
"""With more points, only those on the front have names."""
PLOT = Box(46, 26, WIDTH - 14, HEIGHT - 40)


class Point(NamedTuple):
    """A network in a picture.

    Attributes:
        name: of the network.
        run: of its run.
        style: number of the run's mark.
        cost: what it costs.
        quality: how good it is.
        dominated_by: the name of a network that is no worse and no dearer.
    """

    name: str
    run: str
    style: int
    cost: float
    quality: float
    dominated_by: str | None


def scatter(
    label: str,
    points: Sequence[Point],
    cost: Measure,
    quality: str,
    heading: str,
    qualities: Sequence[float],
) -> Markup:
    """Return a picture of points.

    Args:
        label: what a screen reader says.
        points: at least two.
        cost: what lies across.
        quality: "accuracy" or "score", which lies upwards.
        heading: the title of the upward axis.
        qualities: of all pictures side by side, which share that axis.
    """
    factor = 100 if quality == "accuracy" else 1
    across = scale([point.cost for point in points], PLOT.left, PLOT.right)
    up = scale([factor * value for value in qualities], PLOT.bottom, PLOT.top, log=False)
    places = [(across.place(p.cost), up.place(factor * p.quality)) for p in points]
    front = sorted(
        {place for p, place in zip(points, places, strict=True) if p.dominated_by is None}
    )
    texts = (lambda value: prefixed(value, "").strip(), lambda value: f"{value:.6g}")
    return picture(
        label,
        frame(across, up, (cost.axis, heading), texts),
        _front(front),
        [
            mark(point.style, *place, point.dominated_by is not None, _words(point, cost, quality))
            for point, place in sorted(
                zip(points, places, strict=True), key=lambda pair: pair[0].dominated_by is None
            )
        ],
        _names(points, places, front),
    )


def mark(style: int, x: float, y: float, hollow: bool, title: str | None = None) -> Markup:
    """Return one mark, whose title shows under the pointer.

    Example:
        >>> mark(0, 5, 5, True)
        '<path class="mark run0 hollow" d="M1 5a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"/>'
    """
    outlines = (
        f"M{x - 4:g} {y:g}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 4:g} {y - 4:g}h8v8h-8z",
        f"M{x:g} {y - 5:g}l5 9h-10z",
        f"M{x:g} {y - 5.5:g}l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        f"M{x:g} {y + 5:g}l5 -9h-10z",
        f"M{x - 1.5:g} {y - 5:g}h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    )
    number = style % STYLES
    names = f"mark run{number}{' hollow' if hollow else ''}"
    if title is None:
        return element("path", class_=names, d=outlines[number])
    shape = element("path", class_=names, d=outlines[number])
    return element("g", element("title", title), shape)


def _words(point: Point, cost: Measure, quality: str) -> str:
    dominated = f", dominated by {point.dominated_by}" if point.dominated_by else ""
    name = f"{point.run}: {point.name}" if point.run else point.name
    return f"{name}: {shown(quality, point.quality)}, {cost.text(point.cost)}{dominated}"


def _front(front: Sequence[tuple[float, float]]) -> Markup | None:
    """Return the line of what can be had at each cost."""
    if len(front) < 2:
        return None
    steps = "".join(f"H{x:g}V{y:g}" for x, y in front[1:])
    return element("path", class_="front", d=f"M{front[0][0]:g} {front[0][1]:g}{steps}")


def _steps(front: Sequence[tuple[float, float]]) -> list[Box]:
    """Return what the line covers."""
    pairs = list(itertools.pairwise(front))
    along = [Box(x, y - 1, next_x, y + 1) for (x, y), (next_x, _) in pairs]
    return along + [Box(x - 1, min(y, z), x + 1, max(y, z)) for (_, y), (x, z) in pairs]


def _names(
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
) -> Markup:
    """Name the points of the front, and of few points the others, where a name covers nothing."""
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in places] + _steps(front)
    order = [i for i, point in enumerate(points) if point.dominated_by is None]
    if len(points) <= MOST_NAMED:
        order += [i for i in range(len(points)) if i not in order]
    words = []
    for i in order:
        name, (x, y) = points[i].name, places[i]
        text = (
            name
            if len(name) <= LONGEST_NAME
            else name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
        )
        box = space_for(x, y, text, taken, PLOT)
        if box is not None:
            taken.append(box)
            words.append(
                element(
                    "text", text, class_="name", x=round(box.left, 1), y=round(box.bottom - 3, 1)
                )
            )
    return join(words)
