"""How long `import jaxcompress` takes beyond the JAX and Flax it stands on.

    python -m benchmarks.import_time

Each time is the median of some fresh processes, after one that fills the file cache and writes the
bytecode.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys

from experiments.common.command import Command

__all__ = ["COMMAND", "import_seconds", "main"]


def import_seconds(modules: str, repeats: int) -> float:
    """Return the median time in seconds of ``import {modules}`` in a fresh process."""
    program = (
        "import time; start = time.perf_counter(); "
        f"import {modules}; print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program]
    times = [float(subprocess.check_output(command)) for _ in range(repeats + 1)]
    return statistics.median(times[1:])


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
        repeats: fresh processes per median.
    """

    repeats: int = 5


def main(config: Config) -> None:
    """Print the time of both imports and their difference."""
    base = import_seconds("jax, flax", config.repeats)
    full = import_seconds("jax, flax, jaxcompress", config.repeats)
    print(f"import jax, flax                {base:6.3f} s")
    print(f"import jax, flax, jaxcompress   {full:6.3f} s")
    print(f"jaxcompress alone               {full - base:6.3f} s")


COMMAND = Command("benchmarks.import_time", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
