"""Schedules: at which steps masks change, and how sparse they are from then on.

A `Schedule` is a grid of steps, the events, with one sparsity each; between events it holds the
last one. `one_shot`, `cubic` and `periodic` make them. Everything is a pure function of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import integer, real, require

__all__ = ["Schedule", "cubic", "one_shot", "periodic"]


@dataclass(frozen=True)
class Schedule:
    """Event e happens at step `begin + e * every` and sets the sparsity `levels[e]`.

    Attributes:
        begin: step of the first event.
        every: steps between events.
        levels: sparsity from each event on, in [0, 1).

    Raises:
        ValueError: if there is no event, or a number is out of range.
    """

    begin: int
    every: int
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        require(begin=integer(self.begin, least=0), every=integer(self.every))
        wrong = [str(level) for level in self.levels if real(level, least=0, below=1)]
        wrong += ["no level"] * (not self.levels)
        if wrong:
            raise ValueError(
                "the levels of a schedule are one sparsity in [0, 1) or more, but there is "
                f"{', '.join(wrong)}"
            )

    @property
    def end(self) -> int:
        """The step of the last event."""
        return self.begin + self.every * (len(self.levels) - 1)

    def event(self, step: Array) -> Any:
        """Return the number of the last event up to this step, -1 before the first; traced or not.

        Example:
            >>> one_shot(0.5, step=3).event(np.arange(5)).tolist()
            [-1, -1, -1, 0, 0]
        """
        numpy = np if isinstance(step, int | np.ndarray | np.generic) else jnp
        return numpy.clip((step - self.begin) // self.every, -1, len(self.levels) - 1)

    def is_event(self, step: Array) -> Any:
        """Tell whether masks change at this step, traced or not.

        Example:
            >>> periodic(0.5, begin=2, end=6, every=2).is_event(np.arange(8)).astype(int).tolist()
            [0, 0, 1, 0, 1, 0, 1, 0]
        """
        since = step - self.begin
        return (since >= 0) & (since % self.every == 0) & (step <= self.end)

    def sparsity(self, step: Array) -> Array:
        """Return the sparsity in force at this step: 0 before the first event.

        Example:
            >>> cubic(0.5, begin=0, end=4, every=2).sparsity(np.arange(6)).tolist()
            [0.0, 0.0, 0.4375, 0.4375, 0.5, 0.5]
        """
        event = self.event(step)
        return (np if isinstance(event, np.ndarray | np.generic) else jnp).array(
            (*self.levels, 0.0)
        )[event]


def one_shot(sparsity: float, *, step: int = 0) -> Schedule:
    """Prune once, at `step`.

    Example:
        >>> one_shot(0.75).levels
        (0.75,)
    """
    require(sparsity=real(sparsity, least=0, below=1), step=integer(step, least=0))
    return Schedule(step, 1, (sparsity,))


def cubic(final: float, *, begin: int, end: int, every: int = 1, initial: float = 0.0) -> Schedule:
    """Prune gradually, ever more slowly.

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3 at the steps t = t0, t0 + dt, ..., t0 + n dt.

    Args:
        final: s_f.
        begin: t0.
        end: t0 + n dt.
        every: dt; must divide `end - begin`.
        initial: s_i.

    Source:
        Zhu and Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), equation 1.

    Raises:
        ValueError: if it ends before it begins, or a number is out of range.

    Example:
        >>> cubic(0.8, begin=0, end=20, every=10).levels
        (0.0, 0.7000000000000001, 0.8)
    """
    require(
        final=real(final, least=0, below=1),
        begin=integer(begin, least=0),
        end=integer(end, least=0),
        every=integer(every),
        initial=real(initial, least=0, below=1),
    )
    count = _intervals(begin, end, every)
    if not count:
        raise ValueError(f"a gradual schedule takes time, but it ends where it begins, at {end}")
    left = [1 - event / count for event in range(count + 1)]
    return Schedule(begin, every, tuple(final + (initial - final) * x**3 for x in left))


def periodic(sparsity: float, *, begin: int = 0, end: int, every: int) -> Schedule:
    """Choose the masks anew every `every` steps, at one sparsity: for regrowth (RigL, SET).

    Raises:
        ValueError: if it ends before it begins, or a number is out of range.

    Example:
        >>> periodic(0.9, end=200, every=100)
        Schedule(begin=0, every=100, levels=(0.9, 0.9, 0.9))
    """
    require(
        sparsity=real(sparsity, least=0, below=1),
        begin=integer(begin, least=0),
        end=integer(end, least=0),
        every=integer(every),
    )
    return Schedule(begin, every, (sparsity,) * (_intervals(begin, end, every) + 1))


def _intervals(begin: int, end: int, every: int) -> int:
    if end < begin:
        raise ValueError(
            f"a schedule ends after it begins, but begin={begin} and end={end}; swap them"
        )
    if every < 1 or (end - begin) % every:
        raise ValueError(
            f"every must divide end - begin, but every={every} and end - begin={end - begin}"
        )
    return (end - begin) // every
