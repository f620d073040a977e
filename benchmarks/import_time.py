"""How long `import jaxcompress` takes beyond the JAX and Flax it stands on.

Run from the root of a clone: ``python -m benchmarks.import_time``. Each time is the median of five
fresh processes, after one that fills the file cache and writes the bytecode.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

__all__ = ["import_seconds", "main"]

RUNS = 5


def import_seconds(modules: str) -> float:
    """Return the median time in seconds of ``import {modules}`` in a fresh process."""
    program = (
        "import time; start = time.perf_counter(); "
        f"import {modules}; print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program]
    times = [float(subprocess.check_output(command)) for _ in range(RUNS + 1)]
    return statistics.median(times[1:])


def main() -> None:
    """Print the time of both imports and their difference."""
    base = import_seconds("jax, flax")
    full = import_seconds("jax, flax, jaxcompress")
    print(f"import jax, flax                {base:6.3f} s")
    print(f"import jax, flax, jaxcompress   {full:6.3f} s")
    print(f"jaxcompress alone               {full - base:6.3f} s")


if __name__ == "__main__":
    main()
