"""Work that processes share: done by the first, or by all, and known to all afterwards."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from jaxcompress.annotations import Json
from jaxcompress.arguments import real, require
from jaxcompress.processes.meeting import SECONDS, exchanged, give_up, is_first

__all__ = ["agree", "by_first", "check_shared", "together"]

Result = TypeVar("Result")
WORK_SECONDS = 6 * 3600.0
"""How long one process waits for another that does the same: machines differ, and work is long."""
VISIBLE_SECONDS = 5.0
"""How long a file may take to appear on another machine."""


def by_first(about: str, work: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """Let the first process do something; all go on with its result, or all raise.

    Args:
        about: what is done, for the errors.
        work: does it; called in the first process only. Its result is JSON.
        seconds: how long the others wait.

    Raises:
        RuntimeError: in the others, if it failed; in the first process its error itself.
        TimeoutError: if some process does not come.

    Example:
        >>> by_first("counting", lambda: 3)
        3
    """
    require(seconds=real(seconds, above=0))
    if jax.process_count() == 1:
        return work()
    if not is_first():
        return exchanged(about, None, seconds=seconds)[0]
    result = _done(about, work)
    return exchanged(about, result, seconds=seconds)[0]


def together(about: str, work: Callable[[], Result], *, seconds: float = WORK_SECONDS) -> Result:
    """Do something in every process, and go on when all have done it; if one fails, all raise.

    Args:
        about: what is done, for the errors.
        work: does it.
        seconds: how long to wait for the others.

    Raises:
        RuntimeError: if it failed in another process; in that one its error itself.
        TimeoutError: if some process does not come.

    Example:
        >>> together("reading", lambda: 3)
        3
    """
    require(seconds=real(seconds, above=0))
    if jax.process_count() == 1:
        return work()
    result = _done(about, work)
    exchanged(about, None, seconds=seconds)
    return result


def _done(about: str, work: Callable[[], Result]) -> Result:
    try:
        return work()
    except BaseException as error:
        give_up(about, error)
        raise


def agree(about: str, facts: Mapping[str, Json], *, seconds: float = SECONDS) -> None:
    """Raise in all processes unless the facts are the same in all of them.

    Args:
        about: what they are facts of.
        facts: by name, as JSON can hold.
        seconds: how long to wait for the others.

    Raises:
        ValueError: naming each fact that differs, and what it is in which processes.
        TimeoutError: if some process does not come.

    Example:
        >>> agree("the settings", {"epochs": 2})
    """
    require(seconds=real(seconds, above=0))
    if jax.process_count() == 1:
        return
    said = exchanged(about, dict(facts), seconds=seconds)
    names = sorted({name for one in said for name in one})
    offences = [text for name in names if (text := _difference(name, said))]
    if offences:
        raise ValueError(
            f"all processes have the same of {about}, but they differ in {'; '.join(offences)}; "
            "start all of them with the same command, code and data"
        )


def _difference(name: str, said: list[Any]) -> str | None:
    """Say which processes have which value; nothing where all have the same."""
    by_value: dict[str, list[int]] = {}
    for number, one in enumerate(said):
        value = json.dumps(one[name], sort_keys=True) if name in one else "nothing"
        by_value.setdefault(value, []).append(number)
    if len(by_value) == 1:
        return None
    values = (f"{value:.200} in number {numbers}" for value, numbers in by_value.items())
    return f"{name}: {', '.join(values)}"


def check_shared(folder: str | os.PathLike[str], *, seconds: float = SECONDS) -> None:
    """Raise in all processes unless all see one folder, which the first has made.

    Args:
        folder: by its path, which may name another folder on another machine.
        seconds: how long to wait for the others.

    Raises:
        ValueError: naming the processes that do not see it.
        TimeoutError: if some process does not come.

    Example:
        >>> import tempfile
        >>> check_shared(tempfile.mkdtemp())
    """
    require(seconds=real(seconds, above=0))
    if jax.process_count() == 1:
        return
    name = f".shared.{secrets.token_hex(8)}"
    place = f"looking at the folder {Path(folder).name}"
    file = Path(folder) / by_first(place, lambda: _marked(Path(folder), name), seconds=seconds)
    seen = exchanged(place, _appears(file), seconds=seconds)
    if is_first():
        file.unlink(missing_ok=True)
    blind = [number for number, one in enumerate(seen) if not one]
    if blind:
        raise ValueError(
            f"all processes work in one folder, but those of number {blind} do not see {folder} of "
            "the first; choose one on a disk that they share"
        )


def _marked(folder: Path, name: str) -> str:
    (folder / name).touch()
    return name


def _appears(file: Path) -> bool:
    """Whether a file is there, or soon is: network disks show new names after a while."""
    end = time.monotonic() + VISIBLE_SECONDS
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
