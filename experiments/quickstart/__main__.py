"""The command of the quickstart."""

from __future__ import annotations

from experiments import quickstart
from experiments.common.command import Command
from experiments.quickstart.run import main
from experiments.quickstart.settings import Config

__all__ = ["COMMAND"]

COMMAND = Command("experiments.quickstart", quickstart.__doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
