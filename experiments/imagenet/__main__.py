"""The command that compresses for ImageNet."""

from __future__ import annotations

from experiments import imagenet
from experiments.common.command import Command
from experiments.imagenet.run import main
from experiments.imagenet.settings import PRESETS

__all__ = ["COMMAND"]

COMMAND = Command("experiments.imagenet", imagenet.__doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
