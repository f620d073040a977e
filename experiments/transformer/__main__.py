"""The command of the experiment on transformers."""

from __future__ import annotations

from experiments import transformer
from experiments.common.command import Command
from experiments.transformer.run import main
from experiments.transformer.settings import PRESETS

__all__ = ["COMMAND"]

COMMAND = Command("experiments.transformer", transformer.__doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
