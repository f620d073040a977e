"""The rows of SlimNets' tables as data, and the scales at which they run.

A `Recipe` says how a row is made and what the paper reports of it; a `Preset` how long it trains,
and on what.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

__all__ = ["PRESETS", "RANKS", "RECIPES", "Preset", "Recipe", "with_starts"]

RANKS = (5, 24, 48, 48, 64, 128, 128, 160, 192, 256, 320, 320, 320, 320, 320, 320)
"""Of the 16 convolutions of VGG-19, spatial form (section 3.2 of the paper)."""


class Recipe(NamedTuple):
    """One row.

    Attributes:
        network: name in the registry.
        paper: the accuracy that the paper reports; None for rows of our own.
        start: the row whose variables it starts from; None: fresh ones.
        distils: whether it learns from the row `teacher`.
        sparsity: fraction of each kernel that is pruned; None: nothing.
        gradual: prune by Zhu and Gupta's cubic schedule, or at once.
        ranks: of each convolution; empty: not decomposed.
        flops: fraction of FLOPs that meta-learned gates leave; None: all.
        rate: first learning rate, where nothing is only pruned.
        values: how the artifact stores values.
    """

    network: str
    paper: float | None = None
    start: str | None = None
    distils: bool = False
    sparsity: float | None = None
    gradual: bool = False
    ranks: tuple[int, ...] = ()
    flops: float | None = None
    rate: float = 0.1
    values: Literal["exact", "bfloat16", "int8"] = "exact"


def _pruned(network: str, start: str, accuracies: Sequence[float], gradual: bool) -> list[Recipe]:
    pairs = zip(SPARSITIES, accuracies, strict=True)
    return [Recipe(network, p, start, sparsity=s, gradual=gradual) for s, p in pairs]


def _recipes() -> dict[str, Recipe]:
    found = {
        "teacher": Recipe("vgg19", 0.924, rate=0.05),
        "teacher-bn": Recipe("vgg19_bn", rate=0.05),
        "low-rank": Recipe("vgg19_bn", 0.9327, "teacher-bn", ranks=RANKS, rate=0.05),
    }
    for name, gradual, accuracies in (
        ("one-shot", False, (0.8969, 0.8913, 0.8616)),
        ("gradual", True, (0.9222, 0.9157, 0.8882)),
    ):
        rows = _pruned("vgg19", "teacher", accuracies, gradual)
        found |= {f"{name}-{s:g}": row for s, row in zip(SPARSITIES, rows, strict=True)}
    for network, alone, distilled in STUDENTS:
        short = network.replace("_", "-")
        found[short] = Recipe(network, alone)
        found[f"kd-{short}"] = Recipe(network, distilled, distils=True)
    rows = _pruned("nin", "kd-nin", (0.8929, 0.8869, 0.8544), True)
    found |= {f"kd-nin-gradual-{s:g}": row for s, row in zip(SPARSITIES, rows, strict=True)}
    ours = Recipe("nin", None, "kd-nin", True, 0.875, True, rate=0.02, values="int8")
    found["ours-kd-nin-int8"] = ours
    found["ours-gated-kd-nin-int8"] = ours._replace(flops=0.5, sparsity=0.75)
    found["ours-low-rank-kd-int8"] = ours._replace(
        network="vgg19_bn", start="teacher-bn", ranks=RANKS
    )
    return found


SPARSITIES = (0.4, 0.75, 0.875)
STUDENTS = (
    ("snn_1k", 0.7696, 0.7787),
    ("snn_10k", 0.7717, 0.7919),
    ("cnn_1k", 0.7907, 0.8123),
    ("cnn_10k", 0.8085, 0.8223),
    ("alexnet_cifar", 0.7227, 0.8078),
    ("nin", 0.8888, 0.9057),
)
RECIPES: Mapping[str, Recipe] = MappingProxyType(_recipes())


def with_starts(names: Sequence[str]) -> list[str]:
    """Return the rows in the order they can be made, with all that they need.

    Raises:
        ValueError: if a row is unknown.

    Example:
        >>> with_starts(["kd-nin-gradual-0.75"])
        ['teacher', 'kd-nin', 'kd-nin-gradual-0.75']
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise ValueError(f"rows are {', '.join(RECIPES)}, but not {unknown}; choose among them")
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        recipe = RECIPES[name]
        for needed in (recipe.start, "teacher" if recipe.distils else None):
            if needed is not None:
                add(needed)
        ordered.setdefault(name)

    for name in names:
        add(name)
    return list(ordered)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A scale.

    Attributes:
        dataset: name of the data set.
        epochs: of training and distilling; the rate is halved ten times, as every 30 of 300.
        batch_size: of training and distilling.
        prune_epochs: of pruning; its schedule takes the first half.
        prune_batch_size: of pruning.
        prune_rate: constant learning rate of pruning.
        episodes: of meta-learned gate importance.
        online: run the teacher on every augmented batch, as the paper, instead of recording logits.
        train_images: how many training images; 0 for all.
        widths: configuration of narrower networks; empty: those of the paper.
    """

    dataset: str
    epochs: int
    batch_size: int = 128
    prune_epochs: int = 8
    prune_batch_size: int = 4
    prune_rate: float = 1e-4
    episodes: int = 16
    online: bool = False
    train_images: int = 0
    widths: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


_NARROW = MappingProxyType(
    {
        "vgg19": {"width": 4},
        "vgg19_bn": {"width": 4},
        "nin": {"width": 12},
        "alexnet_cifar": {"width": 8},
    }
)
_QUARTER = MappingProxyType(
    {"vgg19": {"width": 16}, "vgg19_bn": {"width": 16}, "nin": {"width": 48}}
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
            widths=_NARROW,
        ),
        # A tenth of the images and a quarter of the widths; networks stay comparable to each other.
        "cpu": Preset(
            "cifar10",
            epochs=20,
            prune_epochs=10,
            prune_batch_size=32,
            prune_rate=1e-3,
            train_images=5000,
            widths=_QUARTER,
        ),
        # 8 epochs of 12,500 batches of 4 are its 100,000 steps, 50,000 of them on the schedule.
        "paper": Preset("cifar10", epochs=300, online=True),
    }
)
