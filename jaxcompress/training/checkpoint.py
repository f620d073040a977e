"""Checkpoints of a training run: Orbax's numbered steps, imported only when one is needed.

A folder holds the last few steps and the best one, as Orbax's manager lays them out. A step is
written aside with the digests of its files and moved in whole; only then are older ones removed.
A checkpoint continues a run on the same code. To keep or share a network, save an artifact instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.files import locked, sync_folder
from jaxcompress.processes import by_first, check_shared, is_first, together
from jaxcompress.training import digests, record

__all__ = ["checkpoint_steps", "is_score", "save_checkpoint"]

UNFINISHED = ".unfinished"


def save_checkpoint(
    directory: str | os.PathLike[str],
    state: PyTree,
    *,
    step: int | None = None,
    keep: int = 2,
    score: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a state, e.g. a `TrainState`, as a numbered step of a folder.

    Whenever the process is killed or the disk is full, the steps from before or the new one are
    there, whole; what an earlier, interrupted one left is removed. Under `jax.distributed` all
    processes call it, with a folder that all see; the first decides and the others follow.

    Args:
        directory: the folder of one run; made if there is none.
        state: a pytree of arrays (PRNG keys included), sharded or not.
        step: its number, above those there; None: the next, which needs `overwrite` unless the
            folder is new.
        keep: how many of the newest steps stay, this one included.
        score: higher is better; the step with the highest stays besides the newest.
        overwrite: write beside what an earlier run left, in whose place this step is restored.

    Raises:
        FileExistsError: if `directory` is in use and neither `step` nor `overwrite` is given.
        ValueError: if `step` is not above the steps there, `keep` < 1 or `score` is not finite; if
            a leaf is no array of numbers, or in several processes not held by all together.
        BlockingIOError: if another process is writing there.

    Example:
        >>> import tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> for epoch in range(1, 4):
        ...     save_checkpoint(folder, {"w": jax.numpy.full(2, epoch)}, step=epoch, score=-epoch)
        >>> checkpoint_steps(folder)
        {1: -1.0, 2: -2.0, 3: -3.0}
    """
    require(
        step=integer(step, least=0, optional=True),
        keep=integer(keep),
        score=real(score, optional=True),
    )
    folder = Path(directory).absolute()
    leaves = record.describe(state)
    with contextlib.ExitStack() as held:
        about = f"writing the checkpoint {folder.name}"
        number = by_first(about, lambda: _begin(held, folder, step, keep, score, overwrite))
        aside = folder / UNFINISHED
        try:
            check_shared(aside)
            together(about, lambda: _write(aside / str(number), state))
            by_first(about, lambda: _finish(folder, number, keep, score, leaves))
        finally:
            # On a full disk what is left would hinder others as well.
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
        by_first(about, lambda: None)


def _begin(
    held: contextlib.ExitStack,
    folder: Path,
    step: int | None,
    keep: int,
    score: float | None,
    overwrite: bool,
) -> int:
    """Hold the folder, make room beside its steps and return the number of the next."""
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


def _write(folder: Path, state: PyTree) -> None:
    from orbax.checkpoint import v1 as orbax  # heavy: not everyone who trains writes checkpoints

    # Orbax knows no scalars of NumPy.
    plain = jax.tree.map(lambda x: np.asarray(x) if isinstance(x, np.generic) else x, state)
    orbax.save(folder, jax.tree.map(record.stored, plain))


def _finish(
    folder: Path, step: int, keep: int, score: float | None, leaves: dict[str, Array]
) -> int:
    """Move a written step in, and the steps that it makes too many out."""
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
