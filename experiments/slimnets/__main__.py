"""The command that makes the rows of SlimNets."""

from __future__ import annotations

from experiments import slimnets
from experiments.common.command import Command
from experiments.slimnets.run import main
from experiments.slimnets.settings import SCALES

__all__ = ["COMMAND"]

COMMAND = Command("experiments.slimnets", slimnets.__doc__, main, SCALES)

if __name__ == "__main__":
    COMMAND()
