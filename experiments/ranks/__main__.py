"""The command that compares ranks."""

from __future__ import annotations

from experiments import ranks
from experiments.common.command import Command
from experiments.ranks.run import main
from experiments.ranks.settings import PRESETS

__all__ = ["COMMAND"]

COMMAND = Command("experiments.ranks", ranks.__doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
