"""Checkpoints of a training run: Orbax's numbered steps, imported only when one is needed.

A folder holds the last few steps and the best one, as Orbax's manager lays them out. A checkpoint
continues a run on the same code. To keep or share a network, save an artifact instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from jaxcompress.annotations import PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.processes import by_first, check_shared, is_first, together
from jaxcompress.training import record, step_folders
from jaxcompress.training.writing import write

__all__ = ["save_checkpoint"]


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
        >>> import jax.numpy as jnp
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> for epoch in range(1, 4):
        ...     save_checkpoint(folder, {"w": jnp.full(2, epoch)}, step=epoch, score=-epoch)
        >>> step_folders.checkpoint_steps(folder)
        {1: -1.0, 2: -2.0, 3: -3.0}
    """
    require(
        step=integer(step, least=0, optional=True),
        keep=integer(keep),
        score=real(score, optional=True),
    )
    folder = Path(directory).absolute()
    record.check(state)
    leaves = record.describe(state)
    with contextlib.ExitStack() as held:
        about = f"writing the checkpoint {folder.name}"
        number = by_first(about, lambda: step_folders.begin(held, folder, step, overwrite))
        aside = folder / step_folders.UNFINISHED
        try:
            check_shared(aside)
            together(about, lambda: write(aside / str(number), state).result())
            by_first(about, lambda: step_folders.finish(folder, number, keep, score, leaves))
        finally:
            # On a full disk what is left would hinder others as well.
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
        by_first(about, lambda: None)
