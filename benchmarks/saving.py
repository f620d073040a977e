"""How long training waits for a checkpoint: written at once, and behind.

    python -m benchmarks.saving --megabytes 200

A state of random numbers, and steps that multiply matrices. Printed are the seconds that a call
takes, the median of some, and how many steps a second are done while nothing is written, and right
after a call.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.common.command import Command
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch
from jaxcompress.training import save_checkpoint, saving_behind

__all__ = ["COMMAND", "Config", "main"]

LEAF = 1 << 20
"""Numbers of a leaf, 4 megabytes."""
ROWS = 600


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
        megabytes: of the state.
        repeats: checkpoints of each kind.
        seconds: of steps, after each call.
    """

    megabytes: int = 200
    repeats: int = 4
    seconds: float = 5.0


def main(config: Config) -> None:
    """Print both ways to save."""
    prepare()
    keys = jax.random.split(jax.random.key(0), max(1, config.megabytes * 10**6 // (4 * LEAF)))
    state = {f"leaf{n}": jax.random.normal(key, (LEAF,)) for n, key in enumerate(keys)}
    jax.block_until_ready(state)
    pace = _paces(config.seconds)
    print(f"nothing is written: {pace():6.1f} steps a second")
    with tempfile.TemporaryDirectory() as folder:

        def at_once(number: int) -> None:
            save_checkpoint(Path(folder) / "at_once", state, step=number)

        _report("save_checkpoint", at_once, config.repeats, pace)
        with saving_behind(Path(folder) / "behind") as save:
            behind = lambda number: save(state, step=number)  # noqa: E731
            _report("saving_behind", behind, config.repeats, pace)


def _paces(seconds: float) -> Callable[[], float]:
    """Make what counts the steps of some seconds."""
    step = jax.jit(lambda rows: jnp.tanh(rows @ rows))
    rows = jax.block_until_ready(step(jnp.ones((ROWS, ROWS))))

    def pace() -> float:
        watch, count = Stopwatch(), 0
        while watch.seconds < seconds:
            jax.block_until_ready(step(rows))
            count += 1
        return count / watch.seconds

    return pace


def _report(name: str, call: Callable[[int], Any], repeats: int, pace: Callable[[], float]) -> None:
    times, paces = [], []
    for number in range(repeats):
        watch = Stopwatch()
        call(number)
        times.append(watch.seconds)
        paces.append(pace())
    waited, done = statistics.median(times), statistics.median(paces)
    print(f"{name}: {waited:6.2f} s waited, then {done:6.1f} steps a second")


COMMAND = Command("benchmarks.saving", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
