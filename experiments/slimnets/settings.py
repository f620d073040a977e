"""What `experiments.slimnets` runs, and at which scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import tyro

__all__ = ["SCALES", "Config", "Scale"]

Scale = Literal["smoke", "cpu", "paper", "published"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs, and where.

    Attributes:
        preset: the scale, see `experiments.slimnets.presets`; given first, without an option.
        rows: which rows, by name; none named: all.
        seeds: each row is made once per seed; the table shows mean and standard deviation.
        data_dir: folder of TFDS's prepared CIFAR-10; the smoke preset needs none.
        weights_dir: folder of `resnet20_cifar10.safetensors` and `resnet56_cifar10.safetensors`,
            for the preset `published`.
        workdir: where rows, artifacts and the report go.
        only_finished: make nothing, report the rows that are finished, over the seeds they have.
    """

    preset: tyro.conf.Suppress[Scale] = "smoke"
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    workdir: Path = Path("runs/slimnets")
    only_finished: bool = False


SCALES: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "smoke": (
            "digits, seconds a row, to see that everything runs, at chance accuracy",
            Config("smoke"),
        ),
        "cpu": (
            "a part of CIFAR-10, networks of a quarter of the widths, minutes a row",
            Config("cpu"),
        ),
        "paper": ("the paper's", Config("paper")),
        "published": (
            "our own rows, from the published weights of ResNet-20 and -56",
            Config("published"),
        ),
    }
)
