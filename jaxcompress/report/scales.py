"""From values to places in a picture, and the round numbers to write beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Scale", "scale"]

WIDE = 20
"""Values whose largest is so many times the smallest are placed by their logarithms."""


class Scale(NamedTuple):
    """An axis.

    Attributes:
        low: the value at `start`.
        high: the value at `end`.
        start: a place in the picture.
        end: another.
        is_log: whether equal factors, not differences, are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        """Return where a value lies."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = (math.log10(x) for x in (low, high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Return round values on the axis."""
        if self.is_log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            most = last - first
            factors = (1, 2, 5) if most <= 2 else (1,)
            ticks = [f * 10.0**power for power in range(first, last + 1) for f in factors]
            every = max(1, most // 5) if len(factors) == 1 else 1
            return [tick for tick in ticks if self.low <= tick <= self.high][::every]
        step = _round_step((self.high - self.low) / 4)
        lowest, highest = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(lowest, highest + 1)]


def scale(values: Iterable[float], start: float, end: float, *, log: bool | None = None) -> Scale:
    """Return an axis on which all values have room.

    Args:
        values: at least one.
        start: the place of the smallest.
        end: the place of the largest.
        log: by logarithms; by default where positive values differ very much.

    Example:
        >>> scale([1, 9], 0, 100).ticks
        [2.0, 4.0, 6.0, 8.0]
        >>> scale([10, 1000], 0, 100).is_log
        True
    """
    known = [float(value) for value in values]
    low, high = min(known), max(known)
    is_log = (low > 0 and high / low > WIDE) if log is None else log and low > 0
    if is_log:
        room = (high / low) ** 0.06 if high > low else 2.0
        return Scale(low / room, high * room, start, end, True)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end, False)


def _round_step(wanted: float) -> float:
    """Return 1, 2 or 5 times a power of ten, about as large."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted / 1.3)
