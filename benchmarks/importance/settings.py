"""What `benchmarks.importance` compares."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, TypeAlias

from jaxcompress.annotations import Json

__all__ = ["Config", "Form", "Groups", "Library", "Ours", "Torch"]

Library = Literal["jaxcompress", "torch-pruning"]
Groups = Literal["internal", "all"]
Form: TypeAlias = Literal["augmented", "plain", "recovered"]
"""How the images of BatchNorm re-estimation are drawn: `augmented`, or `plain` as they are.

`recovered` trains a little between two augmented re-estimations.
"""
Ours = Literal[
    "random",
    "l1",
    "l2",
    "l2_not_normalised",
    "taylor",
    "taylor_per_flop",
    "fisher_at_one",
    "fisher",
    "fisher_iterative",
    "fisher_local",
    "meta_first_order",
    "meta",
    "learned",
    "learned_temperature_1",
    "learned_temperature_16",
    "learned_64",
    "learned_192",
    "learned_labels",
    "learned_groups",
    "learned_60",
    "learned_60_inner_first",
    "learned_60_inner",
    "learned_60_inner_layers",
    "learned_60_inner_rate_0.1",
    "learned_60_inner_3",
]
"""This library's methods, see `benchmarks.importance.methods`."""
Torch = Literal["l1", "l2", "taylor", "hessian", "fpgm", "lamp", "bn_scale", "random"]
"""Torch-Pruning's methods."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        network: whose weights are pruned.
        ratios: FLOPs that stay, as fractions.
        libraries: ours, or Torch-Pruning too.
        methods: of these libraries, default all.
        groups: internal widths, as Torch-Pruning can prune, or residual streams too.
        seeds: repetitions of what is random: score batches, masks, views.
        test_images: how many of the 10,000.
        validation_images: how many of the 5,000 held-out training images, 0 for none.
        estimation_images: training images for BatchNorm re-estimation.
        forms: of re-estimation, and `recovered`: after a little training.
        recovery_steps: how little, in steps of 128 images.
        output: the JSON file.
    """

    network: Literal["resnet20", "resnet56"] = "resnet56"
    ratios: tuple[float, ...] = (0.6, 0.5, 0.4, 0.3)
    libraries: tuple[Library, ...] = ("jaxcompress", "torch-pruning")
    methods: tuple[Ours | Torch, ...] = ()
    groups: Groups = "internal"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    test_images: int = 10_000
    validation_images: int = 0
    estimation_images: int = 4_096
    forms: tuple[Form, ...] = ("augmented", "plain")
    recovery_steps: int = 40
    output: Path = Path("benchmarks/results/importance.json")

    def settings(self) -> dict[str, Json]:
        """Return what all rows of a file have in common."""
        names = ("network", "test_images", "validation_images", "estimation_images")
        shared = {name: getattr(self, name) for name in names}
        if "recovered" in self.forms:
            shared["recovery_steps"] = self.recovery_steps
        return shared
