"""The command that compares the meanings of a mean."""

from __future__ import annotations

from benchmarks.means_kept import __doc__ as text
from benchmarks.means_kept.run import main
from benchmarks.means_kept.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.means_kept", text, main, Config)

if __name__ == "__main__":
    COMMAND()
