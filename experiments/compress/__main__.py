"""The command that compresses one's own network."""

from __future__ import annotations

from experiments import compress
from experiments.common.command import Command
from experiments.compress.run import main
from experiments.compress.settings import Config

__all__ = ["COMMAND"]

COMMAND = Command("experiments.compress", compress.__doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
