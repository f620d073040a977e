"""How far a loop is and how long it will take: a bar on a terminal, lines in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.common.timing import Stopwatch

__all__ = ["left", "steps"]

Item = TypeVar("Item")
EVERY = 5.0
"""Seconds between the lines of a log file."""


def steps(items: Iterable[Item], total: int, text: str, console: Console) -> Iterator[Item]:
    """Yield the items, showing how many of all are done and how long the others will take.

    Args:
        items: of the loop.
        total: how many there are.
        text: what is done.
        console: where it is shown.

    Example:
        >>> list(steps(range(3), 3, "counting", Console(quiet=True)))
        [0, 1, 2]
    """
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            yield from bar.track(items, total=total, description=text)
        return
    watch, shown = Stopwatch(), EVERY
    for number, item in enumerate(items):
        if number == 1:  # the first one compiles: it says nothing of the others' pace
            watch, shown = Stopwatch(), EVERY
        if number > 1 and watch.seconds > shown:
            shown = watch.seconds + EVERY
            pace = left(watch.seconds, number - 1, total - 1)
            console.print(f"    {text}: {number} of {total}, {pace}")
        yield item


def left(seconds: float, done: int, total: int) -> str:
    """Say how long the rest will take, at the pace so far.

    Example:
        >>> left(30.0, 1, 3), left(30.0, 0, 3)
        ('about 60 s left', 'the first is under way')
    """
    if not done:
        return "the first is under way"
    return f"about {seconds / done * (total - done):,.0f} s left"
