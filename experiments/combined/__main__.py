"""The command that compares methods alone and in sequence."""

from __future__ import annotations

from experiments import combined
from experiments.combined.run import main
from experiments.combined.settings import PRESETS
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("experiments.combined", combined.__doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
