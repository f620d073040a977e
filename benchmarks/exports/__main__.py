"""The command that runs exported networks."""

from __future__ import annotations

from benchmarks.exports import __doc__ as text
from benchmarks.exports.run import main
from benchmarks.exports.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.exports", text, main, Config)

if __name__ == "__main__":
    COMMAND()
