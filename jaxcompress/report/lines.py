"""Lines: spectra of kernels with the rank that was chosen, and metrics by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from jaxcompress.report.canvas import HEIGHT, LETTER, WIDTH, frame, picture
from jaxcompress.report.html import Markup, element
from jaxcompress.report.scales import Scale, scale

__all__ = ["curve", "spectrum"]

SMALL_WIDTH, SMALL_HEIGHT = 180, 120
LEAST_SHARE = 1e-4
"""Singular values below this share of the largest are drawn there."""

Pairs = Sequence[Sequence[float]]


def spectrum(name: str, pairs: Pairs, rank: int, full: int) -> Markup:
    """Return a small picture of singular values, by logarithms, and of the rank.

    Args:
        name: of the site.
        pairs: ranks, and the singular values at them.
        rank: what was chosen.
        full: the largest rank.
    """
    label = f"Singular values of {name}: rank {rank} of {full} is kept"
    most = max((value for _, value in pairs), default=0.0)
    left, right, top, bottom = 4, SMALL_WIDTH - 4, 20, SMALL_HEIGHT - 18
    across = Scale(1.0, float(max(full, 2)), left, right, False)
    up = Scale(math.log10(LEAST_SHARE), 0.0, bottom, top, False)
    shares = [(n, max(value / most, LEAST_SHARE) if most else 1.0) for n, value in pairs]
    chosen = across.place(rank)
    return picture(
        label,
        element("title", label),
        element("rect", class_="kept", x=left, y=top, width=chosen - left, height=bottom - top),
        element("line", class_="grid", x1=left, x2=right, y1=bottom, y2=bottom),
        _polyline([(n, math.log10(share)) for n, share in shares], across, up, 0),
        element("line", class_="chosen", x1=chosen, x2=chosen, y1=top, y2=bottom),
        element("text", _cut(name, SMALL_WIDTH), class_="name", x=left, y=12),
        element("text", f"rank {rank} of {full}", class_="tick", x=left, y=SMALL_HEIGHT - 4),
        width=SMALL_WIDTH,
        height=SMALL_HEIGHT,
    )


def curve(label: str, heading: str, curves: Mapping[str, tuple[Pairs, int]]) -> Markup:
    """Return a picture of a metric by epoch.

    Args:
        label: what a screen reader says.
        heading: the metric.
        curves: by network, `(epoch, value)` pairs, and the number of its colour.
    """
    pairs = [pair for known, _ in curves.values() for pair in known]
    across = scale([epoch for epoch, _ in pairs], 46, WIDTH - 14, log=False)
    up = scale([value for _, value in pairs], HEIGHT - 40, 26)
    texts = (
        lambda value: f"{value:g}" if value == round(value) else "",
        lambda value: f"{value:.4g}",
    )
    return picture(
        label,
        frame(across, up, ("epoch", heading), texts),
        [
            element("g", element("title", name), _polyline(known, across, up, style))
            for name, (known, style) in curves.items()
        ],
    )


def _polyline(pairs: Pairs, across: Scale, up: Scale, style: int) -> Markup:
    places = [f"{across.place(x):g} {up.place(y):g}" for x, y in pairs]
    # One epoch is a dot: a line of no length with round ends.
    return element("path", class_=f"curve run{style}", d="M" + "L".join(places or ["0 0"]) + "h0")


def _cut(name: str, width: float) -> str:
    room = int(width / LETTER) - 1
    return name if len(name) <= room else "\N{HORIZONTAL ELLIPSIS}" + name[1 - room :]
