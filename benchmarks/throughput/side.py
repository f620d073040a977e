"""One framework's process: `python -m benchmarks.throughput.side ours|pytorch THREADS DEVICE`.

The cores are limited before the framework is imported, because PyTorch makes its threads then.
"""

from __future__ import annotations

import importlib
import sys

from benchmarks.cores import limit_cores
from benchmarks.throughput.worker import serve

__all__ = ["main"]


def main(module: str, threads: int, device: str) -> None:
    """Answer questions for a framework until the pipe closes."""
    limit_cores(threads)
    side = importlib.import_module(f"benchmarks.throughput.{module}")
    serve(side.start(threads, device))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
