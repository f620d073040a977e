"""The command that measures what absorbing constants gains."""

from __future__ import annotations

from benchmarks.absorb import __doc__ as text
from benchmarks.absorb.run import Config, main
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.absorb", text, main, Config)

if __name__ == "__main__":
    COMMAND()
