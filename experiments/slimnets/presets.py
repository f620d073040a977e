"""The scales at which the rows of SlimNets run, from seconds to the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from experiments.common.data import IMAGENET
from experiments.slimnets.rows import PUBLISHED, RECIPES, Recipe
from jaxcompress.annotations import Array, Json

__all__ = ["PRESETS", "Preset", "recipes_of", "settings_of"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """A scale.

    Attributes:
        dataset: name of the data set.
        epochs: of training and distilling.
        batch_size: of training and distilling.
        one_cycle: let rates rise and fall by half cosines, with gradients of norm 1 at most;
            otherwise that of training is halved ten times, as every 30 of 300 epochs.
        rate_scale: times the rates of the recipes, which are for batches of 128.
        prune_epochs: of pruning; its schedule takes the first half.
        prune_batch_size: of pruning.
        prune_rate: learning rate of pruning: constant, or the peak of the cycle.
        episodes: of meta-learned gate importance.
        online: run the teacher on every augmented batch, as the paper, instead of recording logits.
        folded: the teacher is the VGG-19 with batch norm, folded into one without.
        train_images: how many training images, the first ones; 0 for all.
        configs: of narrower networks, by name; empty: those of the paper.
        statistics: mean and standard deviation of the images' channels, where those of the data
            set are not what published weights were trained with.
        published: its rows are those from published weights, not the paper's.
    """

    dataset: str
    epochs: int
    batch_size: int = 128
    one_cycle: bool = False
    rate_scale: float = 1.0
    prune_epochs: int = 8
    prune_batch_size: int = 4
    prune_rate: float = 1e-4
    episodes: int = 16
    online: bool = False
    folded: bool = False
    train_images: int = 0
    configs: Mapping[str, Mapping[str, Array]] = dataclasses.field(default_factory=dict)
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    published: bool = False


def _narrow(share: int) -> Mapping[str, Mapping[str, Any]]:
    """Convolutional networks of a fraction of the widths, so that they stay comparable.

    They see too few images to need dropout.
    """
    dropout = {"dropout": 0.0}
    return MappingProxyType(
        {
            "vgg19": {"width": 64 // share, **dropout},
            "vgg19_bn": {"width": 64 // share, **dropout},
            "nin": {"width": 192 // share, **dropout},
            "alexnet_cifar": {"width": 64 // share},
        }
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smoke": Preset(
            "digits",
            epochs=1,
            prune_epochs=1,
            prune_batch_size=128,
            episodes=2,
            train_images=640,
            configs=_narrow(16),
        ),
        # 19 layers without batch norm do not start to learn in so few steps: hence the folding.
        "cpu": Preset(
            "cifar10",
            epochs=4,
            batch_size=64,
            one_cycle=True,
            rate_scale=0.5,
            prune_epochs=1,
            prune_batch_size=64,
            prune_rate=0.02,
            folded=True,
            train_images=20_000,
            configs=_narrow(4),
        ),
        "published": Preset(
            "cifar10",
            epochs=2,
            one_cycle=True,
            statistics=IMAGENET,
            published=True,
        ),
        # 8 epochs of 12,500 batches of 4 are its 100,000 steps, 50,000 of them on the schedule.
        "paper": Preset("cifar10", epochs=300, online=True),
    }
)


def settings_of(preset: Preset) -> dict[str, Json]:
    """Return a preset as plain JSON."""
    fields = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
    return {**fields, "configs": {name: dict(options) for name, options in preset.configs.items()}}


def recipes_of(preset: Preset) -> dict[str, Recipe]:
    """Return the rows at this scale.

    Example:
        >>> recipes_of(PRESETS["cpu"])["teacher"].start
        'teacher-bn'
        >>> recipes_of(PRESETS["paper"])["teacher"].start is None
        True
    """
    recipes = dict(PUBLISHED if preset.published else RECIPES)
    if preset.folded:
        recipes["teacher"] = recipes["teacher"]._replace(start="teacher-bn", folds=True)
    return recipes
