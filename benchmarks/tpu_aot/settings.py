"""Settings of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

__all__ = ["Config", "NetworkName", "Step", "Topology"]


Topology = Literal["v5e:1x1", "v5e:2x2", "v5e:16x16", "v6e:1x1", "v6e:2x2", "v5p:2x2x1", "v4:2x2x1"]
NetworkName = Literal["resnet56", "resnet50", "resnet50_256", "decoder"]
Step = Literal[
    "evaluation",
    "half, free widths",
    "half, multiples of 8",
    "half, multiples of 128",
    "factorized",
    "masked",
    "training",
    "training at half",
    "taylor",
    "fisher",
    "meta",
    "learned gates",
    "candidates",
    "capture",
    "reestimate",
]


@dataclass(frozen=True)
class Config:
    """What is compiled for what.

    Attributes:
        topologies: chips that are described, never at hand.
        networks: names of `networks.BUILDERS`.
        steps: names of `steps.STEPS`.
        again: compile rows that are there, too.
        output: the JSON file.
    """

    topologies: tuple[Topology, ...] = ("v5e:1x1",)
    networks: tuple[NetworkName, ...] = get_args(NetworkName)
    steps: tuple[Step, ...] = get_args(Step)
    again: bool = False
    output: Path = Path("benchmarks/results/tpu_aot.json")
