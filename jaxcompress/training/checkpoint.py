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
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding

from jaxcompress.files import locked, sync_folder
from jaxcompress.training import digests

__all__ = ["checkpoint_steps", "restore_checkpoint", "save_checkpoint"]

State = TypeVar("State")

UNFINISHED = ".unfinished"


def save_checkpoint(
    directory: str | os.PathLike[str],
    state: Any,
    *,
    step: int | None = None,
    keep: int = 2,
    score: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a state, e.g. a `TrainState`, as a numbered step of a folder.

    Whenever the process is killed or the disk is full, the steps from before or the new one are
    there, whole; what an earlier, interrupted `save_checkpoint` left is removed.

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
        ValueError: if `step` is not above the steps there, `keep` < 1 or `score` is not finite.
        BlockingIOError: if another process is writing there.

    Example:
        >>> import tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> for epoch in range(1, 4):
        ...     save_checkpoint(folder, {"w": jax.numpy.full(2, epoch)}, step=epoch, score=-epoch)
        >>> checkpoint_steps(folder)
        {1: -1.0, 2: -2.0, 3: -3.0}
        >>> restore_checkpoint(folder, like={"w": jax.numpy.zeros(2, int)})["w"].tolist()
        [3, 3]
    """
    folder = Path(directory).absolute()
    taken = max(_numbers(folder), default=-1)
    number = taken + 1 if step is None else step
    if step is None and not overwrite and _in_use(folder):
        raise FileExistsError(
            f"a checkpoint is written to a new directory, but {directory} exists; choose another "
            "one, number the steps (step=), or pass overwrite=True"
        )
    _check(number, taken, keep, score)
    writer = jax.process_index() == 0
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) if writer else contextlib.nullcontext():
        if writer:
            _empty(folder / UNFINISHED)
        _together("begun")
        try:
            _write(folder / UNFINISHED / str(number), state)
            if writer:
                _finish(folder, number, keep, score)
        finally:
            # On a full disk what is left would hinder others as well.
            if writer:
                shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        _together("finished")


def _check(step: int, taken: int, keep: int, score: float | None) -> None:
    if step <= taken:
        raise ValueError(
            f"steps are numbered upwards from 0, but the highest there is {taken} and got "
            f"step={step}; take a higher number, or another folder"
        )
    if keep < 1 or (score is not None and not math.isfinite(score)):
        raise ValueError(
            "at least one step is kept and scores are finite, but "
            f"keep={keep} and score={score}; pass keep >= 1, and None where nothing was measured"
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
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _write(folder: Path, state: Any) -> None:
    from orbax.checkpoint import v1 as orbax  # heavy: not everyone who trains writes checkpoints

    orbax.save(folder, state)


def _finish(folder: Path, step: int, keep: int, score: float | None) -> None:
    """Move a written step in, and the steps that it makes too many out."""
    aside = folder / UNFINISHED
    digests.write_digests(aside / str(step), score=None if score is None else float(score))
    os.rename(aside / str(step), folder / str(step))
    sync_folder(folder)
    scores = checkpoint_steps(folder)
    known = {number: score for number, score in scores.items() if score is not None}
    best = sorted(known, key=lambda number: (known[number], number))[-1:]
    for number in scores.keys() - {*list(scores)[-keep:], *best}:
        os.rename(folder / str(number), aside / str(number))


def _together(reached: str) -> None:
    """Wait for the other processes of the run, if there are any."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"jaxcompress checkpoint {reached}")


def checkpoint_steps(directory: str | os.PathLike[str]) -> dict[int, float | None]:
    """Return the finished steps of a folder in their order, each with its score.

    Example:
        >>> checkpoint_steps("nowhere")
        {}
    """
    folder = Path(directory)
    finished = [n for n in _numbers(folder) if (folder / str(n) / digests.FILE).exists()]
    return {n: digests.facts(folder / str(n)).get("score") for n in finished}


def restore_checkpoint(
    directory: str | os.PathLike[str], like: State, *, step: int | None = None
) -> State:
    """Read a state back with the structure, shapes, dtypes and shardings of `like`.

    Args:
        directory: where `save_checkpoint` wrote.
        like: a freshly made state, or its `jax.eval_shape`; leaves without a sharding are
            placed on the default device. Pass the state replicated over a mesh to restore there.
        step: its number; None: the newest.

    Raises:
        FileNotFoundError: if there is no such directory, or no finished step of that number.
        ValueError: if a file of the step is damaged, naming it and the steps that are whole.

    Example:
        >>> import tempfile
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> save_checkpoint(folder, {"w": jax.numpy.ones(2)})
        >>> restore_checkpoint(folder, like=jax.eval_shape(lambda: {"w": jax.numpy.zeros(2)}))
        {'w': Array([1., 1.], dtype=float32)}
    """
    steps = list(checkpoint_steps(directory))
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(
            "a checkpoint is a directory that save_checkpoint() wrote, but there is none at "
            f"{directory}{f' of step {step}, only of {steps}' if steps else ''}; check both, "
            "or start anew"
        )
    number = steps[-1] if step is None else step
    wrong = digests.damaged(Path(directory) / str(number))
    if wrong:
        whole = [n for n in steps if not digests.damaged(Path(directory) / str(n))]
        remedy = f"pass step={whole[-1]}, which is whole" if whole else "start from init_state"
        raise ValueError(
            "the files of a checkpoint must be as save_checkpoint() wrote them, but in step "
            f"{number} of {directory} these are not: {', '.join(wrong)}; {remedy}"
        )
    from orbax.checkpoint import v1 as orbax

    return orbax.load(Path(directory).absolute() / str(number), jax.tree.map(_abstract, like))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    leaf = leaf if hasattr(leaf, "dtype") else jax.numpy.asarray(leaf)
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
