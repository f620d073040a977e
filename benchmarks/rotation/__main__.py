"""The command that compares rotated streams with streams as they are."""

from __future__ import annotations

from benchmarks.rotation import __doc__ as text
from benchmarks.rotation.run import main
from benchmarks.rotation.settings import Config
from experiments.common.command import Command

__all__ = ["COMMAND"]

COMMAND = Command("benchmarks.rotation", text, main, Config)

if __name__ == "__main__":
    COMMAND()
