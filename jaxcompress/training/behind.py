"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from jaxcompress.annotations import PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.processes import by_first, check_shared, is_first, together
from jaxcompress.training import record, step_folders
from jaxcompress.training.writing import Written, copied, write

__all__ = ["Save", "saving_behind"]


class Save(Protocol):
    """Writes a state as a numbered step; it returns when the state is copied."""

    def __call__(self, state: PyTree, *, step: int, score: float | None = None) -> None:
        """Wait for the step before, and begin to write this one: see `save_checkpoint`."""


def saving_behind(
    directory: str | os.PathLike[str], *, keep: int = 2
) -> contextlib.AbstractContextManager[Save]:
    """Write checkpoints behind a training run, one at a time; the block ends when all are written.

    `save(state, step=, score=)` leaves what `save_checkpoint` leaves, but waits only until the
    state is copied to the host, which needs room for one state: its buffers may then be donated. A
    step counts, for `checkpoint_steps` and for whoever restores, when it is written whole; killed
    before, the process leaves the steps from before. Whatever ends the block, the exit of a process
    that was asked to stop included, the last step is written first.

    Under `jax.distributed` all processes call `save` together, and hear there, or at the end of
    the block, if one has failed.

    Args:
        directory: the folder of one run; made if there is none. It is held while a step is written.
        keep: how many of the newest steps stay; that with the highest score stays besides.

    Raises:
        Exception: what went wrong while a step was written, when the next is saved or the block
            ends; where the block ends by another error, it is a note of that one.
        ValueError: as of `save_checkpoint`, at once.
        BlockingIOError: likewise, if another process is writing there.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> with saving_behind(folder) as save:
        ...     for epoch in range(1, 4):
        ...         save({"w": jnp.full(2, epoch)}, step=epoch, score=-epoch)
        >>> step_folders.checkpoint_steps(folder)
        {1: -1.0, 2: -2.0, 3: -3.0}
    """
    require(keep=integer(keep))
    return _saving(Path(directory).absolute(), keep)


@contextlib.contextmanager
def _saving(folder: Path, keep: int) -> Iterator[Save]:
    with ThreadPoolExecutor(1, "checkpoint") as thread:
        behind = _Behind(folder, keep, thread)
        try:
            yield behind.save
        except BaseException as error:
            # Other processes may be elsewhere: nobody is met here.
            failed = None if behind.pending is None else behind.pending.exception()
            if failed is not None:
                error.add_note(f"{behind.about} failed, too: {type(failed).__name__}: {failed}")
            raise
        behind.wait()


class _Behind:
    """The step that is being written, if any."""

    def __init__(self, folder: Path, keep: int, thread: ThreadPoolExecutor) -> None:
        self.folder, self.keep, self.thread = folder, keep, thread
        self.about = f"writing the checkpoint {folder.name}"
        self.pending: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the last step; all processes raise if it failed in one."""
        pending, self.pending = self.pending, None
        if pending is not None:
            together(self.about, pending.result)

    def save(self, state: PyTree, *, step: int, score: float | None = None) -> None:
        """Begin to write a state."""
        require(step=integer(step, least=0), score=real(score, optional=True))
        record.check(state)
        self.wait()
        with contextlib.ExitStack() as held:
            by_first(self.about, lambda: step_folders.begin(held, self.folder, step))
            aside = self.folder / step_folders.UNFINISHED
            held.callback(_clear, aside)  # before the folder is let go of
            check_shared(aside)
            copy = copied(state)
            written = together(self.about, lambda: write(aside / str(step), copy))
            rest = held.pop_all()
        self.pending = self.thread.submit(self._finish, rest, written, copy, step, score)

    def _finish(
        self,
        held: contextlib.ExitStack,
        written: Written,
        copy: PyTree,
        step: int,
        score: float | None,
    ) -> None:
        """Wait until all is written and move it in; of several processes the first does so."""
        with held:
            try:
                leaves = record.describe(copy) if is_first() else {}
            finally:
                written.result()  # whatever happens: this ends Orbax's thread
            if is_first():
                step_folders.finish(self.folder, step, self.keep, score, leaves)


def _clear(aside: Path) -> None:
    """Remove what is left aside: on a full disk it would hinder others as well."""
    if is_first():
        shutil.rmtree(aside, ignore_errors=True)
