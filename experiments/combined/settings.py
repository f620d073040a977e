"""What `experiments.combined` compares, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from experiments.common.tuning import Tuning

__all__ = ["PRESETS", "WAYS", "Config", "Kind", "Looks", "Target", "Way", "steps_of"]

Way = Literal[
    "prune",
    "low_rank",
    "sparse",
    "prune-sparse",
    "low_rank-sparse",
    "prune-low_rank",
    "prune-low_rank-sparse",
    "low_rank-prune",
]
"""A method, or several in their order."""
WAYS: tuple[Way, ...] = get_args(Way)
Kind = Literal["flops", "bytes"]


def steps_of(way: str) -> tuple[str, ...]:
    """Return the methods of a way, in their order.

    Example:
        >>> steps_of("low_rank-sparse")
        ('low_rank', 'sparse')
    """
    return tuple(way.split("-"))


class Target(NamedTuple):
    """A budget: what share of the whole network may be left of which cost.

    Attributes:
        kind: FLOPs, or bytes on disk; those of the whole network are of its float32 values.
        share: that may be left.
    """

    kind: Kind
    share: float

    @property
    def name(self) -> str:
        """The budget as a part of names."""
        return f"{self.kind}{self.share:g}"


@dataclasses.dataclass(frozen=True)
class Looks:
    """How many training images are looked at.

    Attributes:
        rounds: random masks of 32 images that channels of the whole network are scored at.
        again: the same of a network that is in factors already.
        covariances: images that ranks and factors are computed from.
        statistics: that BatchNorm is re-estimated on, augmented.
        held: that splits are judged on, and that are looked at for nothing else.
    """

    rounds: int = 32
    again: int = 8
    covariances: int = 256
    statistics: int = 512
    held: int = 1000


RECOVERY = Tuning(epochs=1, train_images=1280, rate=0.01, distillation=1.0, batch_size=64)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        weights: PyTorch state dict of a CIFAR ResNet, as safetensors.
        data_dir: folder of TFDS's prepared data.
        network: name of the network.
        dataset: name of the data set.
        ways: methods and sequences of them; `sparse`, whose zeros save no FLOPs, joins for bytes.
        bytes: budgets, shares of the bytes that the whole network takes in float32.
        flops: budgets, shares of its FLOPs.
        seeds: of everything random, a network each; splits are chosen with seed 0.
        looks: how many training images are looked at.
        recovery: the lesson by stored answers, without labels by default.
        rates: of the lesson, tried beside `recovery.rate`; each network takes the one, or no
            lesson, after which its answers to the held images are nearest to the whole network's.
        test_images: how many test images are classified; 0 for all.
        workdir: where the report, the picture and the networks go.
    """

    weights: Path | None = None
    data_dir: Path | None = None
    network: str = "resnet20"
    dataset: str = "cifar10"
    ways: tuple[Way, ...] = WAYS
    bytes: tuple[float, ...] = (0.15, 0.1)
    flops: tuple[float, ...] = (0.5,)
    seeds: tuple[int, ...] = (0, 1, 2)
    looks: Looks = Looks()
    recovery: Tuning = RECOVERY
    rates: tuple[float, ...] = (0.001,)
    test_images: int = 0
    workdir: Path = Path("runs/combined_resnet20")


RESNET56 = Config(
    network="resnet56",
    bytes=(0.15,),
    flops=(0.5,),
    looks=Looks(rounds=16, covariances=128),
    workdir=Path("runs/combined_resnet56"),
)
PRESETS: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "resnet20": ("ResNet-20 on CIFAR-10", Config()),
        "resnet56": ("ResNet-56 on CIFAR-10, fewer budgets and images", RESNET56),
    }
)
