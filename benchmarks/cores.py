"""On how many cores a benchmark runs; needs neither JAX nor PyTorch, which must be limited first.

Threads are made when JAX starts its backend (at its first use, not when it is imported), PyTorch's
when it is imported.
"""

from __future__ import annotations

import os

__all__ = ["limit_cores"]


def limit_cores(count: int) -> None:
    """Keep this process, and every thread it will start, on the first cores it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
