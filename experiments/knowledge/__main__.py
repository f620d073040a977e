"""The command that compares ways to teach."""

from __future__ import annotations

from experiments import knowledge
from experiments.common.command import Command
from experiments.knowledge.run import main
from experiments.knowledge.settings import Config

__all__ = ["COMMAND"]

COMMAND = Command("experiments.knowledge", knowledge.__doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
