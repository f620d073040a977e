"""The command that prunes a network."""

from __future__ import annotations

from experiments import prune
from experiments.common.command import Command
from experiments.prune.run import main
from experiments.prune.settings import Config

__all__ = ["COMMAND"]

COMMAND = Command("experiments.prune", prune.__doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
