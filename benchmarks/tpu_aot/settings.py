"""Settings of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.tpu_aot.networks import BUILDERS
from benchmarks.tpu_aot.steps import STEPS

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What is compiled for what.

    Attributes:
        topologies: such as v5e:1x1, v5e:2x2, v6e:2x2, v5p:2x2x1, v4:2x2x1, v5e:16x16.
        networks: names of `networks.BUILDERS`.
        steps: names of `steps.STEPS`.
        again: compile rows that are there, too.
        output: the JSON file.
    """

    topologies: tuple[str, ...] = ("v5e:1x1",)
    networks: tuple[str, ...] = tuple(BUILDERS)
    steps: tuple[str, ...] = tuple(STEPS)
    again: bool = False
    output: Path = Path("benchmarks/results/tpu_aot.json")
