"""What `benchmarks.adapting` compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Config", "Way"]

Way = Literal["fisher", "learned", "learned_60", "batch_norm", "head", "along", "along_kept"]
"""How channels are chosen.

    fisher: by masked Fisher; the time that the others take goes into recovery, `extra_steps`.
    learned: by learned gates, 120 updates, no inner steps.
    learned_60: the same in 60 updates.
    batch_norm: 30 updates, each through three inner steps of BatchNorm's scales and biases.
    head: 60 updates, each through three inner steps of the last layer.
    along: 40 updates, each followed by a step of all weights at the mask of the moment; recovery
        starts from the old weights.
    along_kept: the same; recovery goes on from the weights that were trained along.
"""


@dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        network: whose public weights are pruned.
        flops: the fraction that stays.
        ways: of choosing channels.
        epochs: of recovery; each has a schedule of its own, down to a rate of 0.
        epoch_images: training images of an epoch, drawn anew for each.
        extra_steps: of recovery that `fisher` has beyond, for the time that it saves.
        seeds: of the images that scores are computed from, and of recovery.
        output: the rows.
    """

    network: Literal["resnet20", "resnet56"] = "resnet20"
    flops: float = 0.5
    ways: tuple[Way, ...] = ("fisher", "learned", "batch_norm", "head", "along_kept")
    epochs: tuple[int, ...] = (1, 3, 10)
    epoch_images: int = 5_000
    extra_steps: int = 80
    seeds: tuple[int, ...] = (0, 1, 2)
    output: Path = Path("benchmarks/results/adapting_resnet20.json")
