"""Training that may be stopped at any moment: its state is kept every so often, and when told to.

A state's step says where in which epoch it stands, and the order of the examples is a function of
the epoch alone: who goes on from there ends with the bits of a run that was not stopped.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from experiments.common.timing import Stopwatch
from jaxcompress import training
from jaxcompress.processes import by_first, exchanged
from jaxcompress.training import Save, TrainState

__all__ = ["Kept", "asked_to_stop", "keeping"]

State = TypeVar("State")
SECONDS = 120.0
"""What a killed run loses, at most."""


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Note a SIGTERM instead of dying of it, and tell of it when called.

    Machines that are taken away send it, some 30 seconds before. Python delivers signals to its
    first thread alone; in another, nothing is noted.

    Example:
        >>> with asked_to_stop() as asked:
        ...     asked()
        False
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: noted.set())
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Kept:
    """Writes the state of a training run where it may have to go on, while it does.

    Attributes:
        folder: of its numbered checkpoints; None to write none.
        asked: whether to stop.
        save: begins to write one.
    """

    folder: Path | None
    asked: Callable[[], bool]
    save: Save | None = None
    _last: int = field(init=False, default=-1)
    _watch: Stopwatch = field(init=False, default_factory=Stopwatch)

    def restored(self, like: State) -> State:
        """Return the newest state that was kept, laid out like the given one, or that one."""
        steps = self._steps()
        if self.folder is None or not steps:
            return like
        self._last = steps[-1]
        return training.restore_checkpoint(self.folder, like=like, step=self._last)

    def _steps(self) -> list[int]:
        """Return the steps that are kept, as the first process sees them."""
        folder = self.folder
        if folder is None:
            return []
        return list(by_first("kept states", lambda: list(training.checkpoint_steps(folder))))

    def now(self, state: TrainState) -> None:
        """Keep a state, numbered by its step; it may be donated at once."""
        if self.save is None:
            return
        step = int(state.step)
        if step != self._last:
            self.save(state, step=step)
        self._last, self._watch = step, Stopwatch()

    def at_times(self, state: TrainState) -> None:
        """Keep a state if it is time to, or if any of several processes was asked to stop.

        Raises:
            SystemExit: with the code of a terminated process, if it was asked to stop.
        """
        if self.folder is None:
            return
        said = exchanged("whether to keep a state", [self.asked(), self._watch.seconds >= SECONDS])
        is_asked, is_time = any(one[0] for one in said), said[0][1]
        if is_asked or is_time:
            self.now(state)
        if is_asked:
            raise SystemExit(128 + signal.SIGTERM)


@contextlib.contextmanager
def keeping(folder: Path | None) -> Iterator[Kept]:
    """Keep the states of one training run in a folder, until the block ends and all are written.

    Args:
        folder: of this run alone; None to keep nothing, and to die of a SIGTERM as ever.
    """
    if folder is None:
        yield Kept(None, lambda: False)
        return
    with asked_to_stop() as asked, training.saving_behind(folder) as save:
        yield Kept(folder, asked, save)
