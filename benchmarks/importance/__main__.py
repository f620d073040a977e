"""The command that compares importances."""

from __future__ import annotations

from benchmarks.importance import __doc__ as text
from benchmarks.importance.run import main
from benchmarks.importance.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.importance", text, main, Config)

if __name__ == "__main__":
    COMMAND()
