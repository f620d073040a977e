"""Numbers as people read them, and what is measured of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxcompress.annotations import Json

__all__ = ["COSTS", "MEASURES", "Measure", "change", "plain", "seconds", "short", "shown"]

SPACE = "\N{NO-BREAK SPACE}"


def plain(value: Json, digits: int = 4) -> str:
    """Return a number with few digits, and anything else as text.

    Example:
        >>> plain(121881), plain(0.51234567), plain(1e-7), plain(None), plain(True)
        ('121,881', '0.5123', '1e-07', 'none', 'yes')
    """
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 1e15
        return f"{value:,.0f}" if is_whole or 1e4 < abs(value) < 1e15 else f"{value:.{digits}g}"
    return str(value)


def percent(value: float) -> str:
    """Return a fraction in per cent.

    Example:
        >>> percent(0.98888)
        '98.89\\xa0%'
    """
    return f"{100 * value:.2f}{SPACE}%"


def prefixed(value: float, unit: str) -> str:
    """Return a number with a prefix of powers of 1,000.

    Example:
        >>> prefixed(2513444.0, "FLOPs"), prefixed(534732, "B"), prefixed(12, "B")
        ('2.513\\xa0MFLOPs', '534.7\\xa0kB', '12\\xa0B')
    """
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.4g}{SPACE}{prefix}{unit}"
    return f"{value:.4g}{SPACE}{unit}"


def seconds(value: float) -> str:
    """Return a time.

    Example:
        >>> seconds(0.433), seconds(95.2), seconds(7384)
        ('0.43 s', '1 min 35 s', '2 h 3 min')
    """
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def change(value: float, original: float) -> str | None:
    """Say by how much a cost differs from the original's; None where it does not.

    Example:
        >>> change(50, 100), change(120, 100), change(100, 100)
        ('50.0\\xa0% fewer', '20.0\\xa0% more', None)
    """
    if not original or math.isclose(value, original, rel_tol=5e-4):
        return None
    share = value / original - 1
    return f"{abs(share):.1%} {'fewer' if share < 0 else 'more'}".replace("%", f"{SPACE}%")


def short(path: str) -> str:
    """Drop what the names of leaves share: the collection, and the word kernel.

    Example:
        >>> short("params/stage1_block0/conv1/kernel[3]")
        'stage1_block0/conv1[3]'
    """
    return path.removeprefix("params/").replace("/kernel", "")


class Measure(NamedTuple):
    """Something that is measured of a network.

    Attributes:
        heading: of its column.
        words: in a sentence, behind "fewer".
        axis: the title of its axis.
        text: a value as it is shown.
    """

    heading: str
    words: str
    axis: str
    text: Callable[[Json], str]


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "accuracy": Measure("accuracy", "", "accuracy, %", percent),
        "score": Measure("score", "", "score", plain),
        "flops": Measure(
            "FLOPs",
            "FLOPs",
            "FLOPs per example (multiply-accumulates x 2)",
            lambda value: prefixed(value, "FLOPs"),
        ),
        "num_params": Measure("parameters", "parameters", "parameters", plain),
        "num_nonzero": Measure(
            "non-zero", "parameters that are not zero", "parameters that are not zero", plain
        ),
        "bytes": Measure(
            "on disk", "bytes on disk", "bytes on disk", lambda value: prefixed(value, "B")
        ),
        "latency_ms": Measure(
            "latency",
            "milliseconds a call",
            "milliseconds a call",
            lambda value: f"{value:,.2f} ms",
        ),
        "seconds": Measure("time to make", "", "seconds", seconds),
    }
)
COSTS = ("flops", "num_params", "num_nonzero", "bytes", "latency_ms")
"""What a picture compares accuracies with."""


def shown(name: str, value: Json) -> str:
    """Return a field of a row as it is shown, a dash where it was not measured.

    Example:
        >>> shown("accuracy", 0.5), shown("bytes", None)
        ('50.00\\xa0%', '–')
    """
    return "\N{EN DASH}" if value is None else MEASURES[name].text(value)
