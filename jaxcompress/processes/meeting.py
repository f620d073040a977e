"""Where processes meet: each says something, hears what all say, or learns who is missing.

All processes meet in the same order; each meeting has a number, and says what it is about.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from typing import Any

import jax

from jaxcompress.annotations import Json
from jaxcompress.arguments import real, require
from jaxcompress.processes import coordinator

__all__ = ["SECONDS", "exchanged", "give_up", "is_first"]

SECONDS = 1800.0
"""How long one process waits for another: the first may write gigabytes meanwhile. Of a process
that has died JAX's heartbeats tell earlier."""
SHORTEST, LONGEST = 0.002, 0.5
"""Seconds between two looks; each is twice the one before."""
MEETINGS = itertools.count()


def is_first() -> bool:
    """Whether this process writes the files and talks for all.

    Example:
        >>> is_first()
        True
    """
    return jax.process_count() == 1 or jax.process_index() == 0


def exchanged(about: str, said: Json, *, seconds: float = SECONDS) -> list[Any]:
    """Return what every process says here, in the order of their numbers, as JSON holds it.

    Args:
        about: what it is about, the same in all processes.
        said: what this one says.
        seconds: how long to wait for the others.

    Raises:
        TimeoutError: if some do not come; they are named.
        RuntimeError: if one has given up, or is somewhere else in the program.

    Example:
        >>> exchanged("images", 8)
        [8]
    """
    require(seconds=real(seconds, above=0))
    if jax.process_count() == 1:
        return [said]
    heard = _meet({"about": about, "said": said}, seconds)
    failed = {number: words["failed"] for number, words in heard.items() if "failed" in words}
    if failed:
        raise RuntimeError(
            f"all processes do this together: {about}; but it failed in "
            f"{'; in '.join(f'number {n}: {text}' for n, text in failed.items())}"
        )
    missing = sorted({*range(jax.process_count())} - heard.keys())
    if missing:
        raise TimeoutError(
            f"all processes do this together: {about}; but those of number {missing} did not come "
            f"within {seconds:.0f} s; look at what they print, and start all of them again"
        )
    places = {number: words["about"] for number, words in heard.items()}
    if len(set(places.values())) > 1:
        raise RuntimeError(
            "all processes run one program and meet in one order, but they are at "
            f"{places}, by their numbers; start all of them with the same command"
        )
    return [heard[number]["said"] for number in sorted(heard)]


def give_up(about: str, error: BaseException) -> None:
    """Tell those who wait for this process, here or where they meet next, that it has failed.

    It does not wait for them. Whoever calls this raises the error afterwards.

    Args:
        about: what failed.
        error: why.

    Example:
        >>> give_up("writing", OSError("no room"))
    """
    if jax.process_count() > 1:
        folder = f"jaxcompress/{next(MEETINGS)}/"
        text = f"{type(error).__name__}: {error}"
        # Where the first process has died nobody hears this, and JAX ends the others.
        with contextlib.suppress(RuntimeError):
            _post(folder, {"about": about, "failed": text})


def _post(folder: str, words: Json) -> None:
    coordinator.post(f"{folder}{jax.process_index()}", json.dumps(words))


def _meet(words: Json, seconds: float) -> dict[int, Any]:
    """Say something and listen until all have spoken, one has failed or the time is over."""
    number, count = next(MEETINGS), jax.process_count()
    folder, end, pause = f"jaxcompress/{number}/", time.monotonic() + seconds, SHORTEST
    _post(folder, words)
    while True:
        texts = coordinator.posted(folder)
        heard = {int(name): json.loads(text) for name, text in texts.items()}
        is_over = len(heard) == count or time.monotonic() > end
        if is_over or any("failed" in said for said in heard.values()):
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)
    # Whoever speaks here has heard all that was said before.
    if len(heard) == count and number:
        coordinator.drop(f"jaxcompress/{number - 1}/{jax.process_index()}")
    return heard
