"""The command that compresses on limited resources."""

from __future__ import annotations

from experiments import limited_resources
from experiments.common.command import Command
from experiments.limited_resources.run import main
from experiments.limited_resources.settings import PRESETS

__all__ = ["COMMAND"]

COMMAND = Command("experiments.limited_resources", limited_resources.__doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
