"""The command that compares scores of transformers."""

from __future__ import annotations

from benchmarks.transformer_scores import __doc__ as text
from benchmarks.transformer_scores.run import main
from benchmarks.transformer_scores.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.transformer_scores", text, main, Config)

if __name__ == "__main__":
    COMMAND()
