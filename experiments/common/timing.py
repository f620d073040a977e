"""Seconds of work: the only clock of experiments and benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import jax

from jaxcompress.annotations import Array

__all__ = ["Stopwatch", "spent_with", "timed"]

Result = TypeVar("Result")


class Stopwatch:
    """Counts seconds from when it is made.

    Args:
        clock: by which; `time.process_time` counts those that this process was busy.

    Example:
        >>> Stopwatch().seconds >= 0
        True
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._started = clock, clock()

    @property
    def seconds(self) -> float:
        """How many have passed by now."""
        return self._clock() - self._started


def timed(make: Callable[[], Result]) -> tuple[Result, float]:
    """Return a result, once its arrays are computed, and the seconds that it took.

    Example:
        >>> timed(lambda: 1 + 1)[0]
        2
    """
    watch = Stopwatch()
    result = jax.block_until_ready(make())
    return result, watch.seconds


def spent_with(known: dict[str, Array]) -> Callable[[], dict[str, float]]:
    """Start to count, on top of earlier attempts; the result tells how much it is by now.

    Example:
        >>> sorted(spent_with({"seconds": 3.0})())
        ['cpu_seconds', 'device_hours', 'seconds']
    """
    watch, busy = Stopwatch(), Stopwatch(time.process_time)

    def spent() -> dict[str, float]:
        seconds = known.get("seconds", 0.0) + watch.seconds
        cpu_seconds = known.get("cpu_seconds", 0.0) + busy.seconds
        hours = seconds * jax.device_count() / 3600
        return {"seconds": seconds, "device_hours": hours, "cpu_seconds": cpu_seconds}

    return spent
