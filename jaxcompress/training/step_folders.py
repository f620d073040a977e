"""The folder of a run's checkpoints: numbered steps, and what is written aside.

A step is written aside with the digests of its files and moved in whole; only then are older ones
removed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
from pathlib import Path

from jaxcompress.annotations import Array
from jaxcompress.files import locked, sync_folder
from jaxcompress.training import digests

__all__ = ["UNFINISHED", "begin", "checkpoint_steps", "finish", "is_score"]

UNFINISHED = ".unfinished"


def begin(
    held: contextlib.ExitStack, folder: Path, step: int | None, overwrite: bool = False
) -> int:
    """Hold the folder, make room beside its steps and return the number of the next.

    Args:
        held: what holds it, until it is closed.
        folder: of one run.
        step: its number, None for the next.
        overwrite: write though the folder is in use and `step` is None.

    Raises:
        FileExistsError: if the folder is in use.
        ValueError: if `step` is not above the steps there.
        BlockingIOError: if another process is writing there.
    """
    if step is None and not overwrite and _in_use(folder):
        raise FileExistsError(
            f"a checkpoint is written to a new directory, but {folder} exists; choose another "
            "one, number the steps (step=), or pass overwrite=True"
        )
    _check(step, max(_numbers(folder), default=-1))
    folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(folder))
    _empty(folder / UNFINISHED)
    return max(_numbers(folder), default=-1) + 1 if step is None else step


def _check(step: int | None, taken: int) -> None:
    if step is not None and step <= taken:
        raise ValueError(
            f"steps are numbered upwards from 0, but the highest there is {taken} and got "
            f"step={step}; take a higher number, or another folder"
        )


def _in_use(folder: Path) -> bool:
    """Whether there is more than what an interrupted `save_checkpoint` leaves."""
    if not folder.is_dir():
        return folder.exists()
    return any(path.name not in (UNFINISHED, ".lock") for path in folder.iterdir())


def _numbers(folder: Path) -> list[int]:
    """The numbers that are taken, in order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def _empty(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def finish(
    folder: Path, step: int, keep: int, score: float | None, leaves: dict[str, Array]
) -> int:
    """Move a written step in, and the steps that it makes too many out; return its number.

    Args:
        folder: of one run, held.
        step: its number.
        keep: how many of the newest stay.
        score: of the step; that with the highest stays besides.
        leaves: the record of its leaves.
    """
    aside = folder / UNFINISHED
    given = {"step": step, "score": None if score is None else float(score), "leaves": leaves}
    digests.write_digests(aside / str(step), **given)
    os.rename(aside / str(step), folder / str(step))
    sync_folder(folder)
    scores = checkpoint_steps(folder)
    known = {number: score for number, score in scores.items() if score is not None}
    best = sorted(known, key=lambda number: (known[number], number))[-1:]
    for number in scores.keys() - {*list(scores)[-keep:], *best}:
        os.rename(folder / str(number), aside / str(number))
    return step


def checkpoint_steps(directory: str | os.PathLike[str]) -> dict[int, float | None]:
    """Return the finished steps of a folder in their order, each with its score.

    Example:
        >>> checkpoint_steps("nowhere")
        {}
    """
    folder = Path(directory)
    finished = [n for n in _numbers(folder) if os.path.lexists(folder / str(n) / digests.FILE)]
    scores = {n: digests.facts(folder / str(n)).get("score") for n in finished}
    return {n: score if is_score(score) else None for n, score in scores.items()}


def is_score(value: Array) -> bool:
    """Whether this is what `save_checkpoint` takes as a score."""
    return value is None or (type(value) is float and math.isfinite(value))
