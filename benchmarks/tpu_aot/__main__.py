"""The command that compiles for TPUs that are not there."""

from __future__ import annotations

from benchmarks.tpu_aot import __doc__ as text
from benchmarks.tpu_aot.run import main
from benchmarks.tpu_aot.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.tpu_aot", text, main, Config)

if __name__ == "__main__":
    COMMAND()
