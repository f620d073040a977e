"""The command that compares gates by what recovery makes of them."""

from __future__ import annotations

from benchmarks.adapting import __doc__ as text
from benchmarks.adapting.run import main
from benchmarks.adapting.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.adapting", text, main, Config)

if __name__ == "__main__":
    COMMAND()
