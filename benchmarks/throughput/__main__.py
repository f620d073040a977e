"""The command that measures throughput."""

from __future__ import annotations

from benchmarks.throughput import __doc__ as text
from benchmarks.throughput.run import main
from benchmarks.throughput.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.throughput", text, main, Config)

if __name__ == "__main__":
    COMMAND()
