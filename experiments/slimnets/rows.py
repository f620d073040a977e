"""The rows of SlimNets' tables as data, and our own: a `Recipe` says how a row is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from jaxcompress.sparse import Scope

__all__ = ["PUBLISHED", "RANKS", "RECIPES", "Recipe", "needed", "with_starts"]

RANKS = (5, 24, 48, 48, 64, 128, 128, 160, 192, 256, 320, 320, 320, 320, 320, 320)
"""Of the 16 convolutions of VGG-19, spatial form (section 3.2 of the paper)."""
SPARSITIES = (0.4, 0.75, 0.875)
STUDENTS = (
    ("snn_1k", 0.7696, 0.7787),
    ("snn_10k", 0.7717, 0.7919),
    ("cnn_1k", 0.7907, 0.8123),
    ("cnn_10k", 0.8085, 0.8223),
    ("alexnet_cifar", 0.7227, 0.8078),
    ("nin", 0.8888, 0.9057),
)
"""Network, accuracy alone, accuracy distilled."""


class Recipe(NamedTuple):
    """One row.

    Attributes:
        network: name in the registry.
        paper: the accuracy that the paper reports; None for rows of our own.
        paper_fewer: how many times fewer parameters than VGG-19's it reports, where it does.
        start: the row whose variables it starts from; None: fresh ones.
        published: the row is the network with published weights, untrained.
        folds: the row is `start` with its batch norms folded into the convolutions, untrained.
        teacher: the row whose answers it learns; None: it learns from labels alone.
        sparsity: fraction of each kernel that is pruned; None: nothing.
        fewer: prune until VGG-19 has this many times as many non-zero parameters, biases counted.
        gradual: prune by Zhu and Gupta's cubic schedule, or at once.
        scope: how the sparsity spreads over the kernels; the paper's is "uniform".
        ranks: of each convolution; empty: not decomposed.
        flops: fraction of FLOPs that meta-learned or, from published weights, learned gates leave;
            None: all.
        rate: first learning rate, where nothing is only pruned.
        values: how the artifact stores values.
    """

    network: str
    paper: float | None = None
    paper_fewer: float | None = None
    start: str | None = None
    published: bool = False
    folds: bool = False
    teacher: str | None = None
    sparsity: float | None = None
    fewer: float | None = None
    gradual: bool = False
    scope: Scope = "uniform"
    ranks: tuple[int, ...] = ()
    flops: float | None = None
    rate: float = 0.1
    values: Literal["exact", "bfloat16", "int8"] = "exact"

    @property
    def prunes(self) -> bool:
        """Whether weights are removed."""
        return self.sparsity is not None or self.fewer is not None

    @property
    def trains(self) -> bool:
        """Whether anything is learned."""
        return not (self.published or self.folds)


def _papers() -> dict[str, Recipe]:
    """The paper's own: VGG-19 pruned and decomposed, students distilled, the best one pruned."""
    recipes = {
        "teacher-bn": Recipe("vgg19_bn", rate=0.05),
        "teacher": Recipe("vgg19", 0.924, 1.0, rate=0.05),
        "low-rank": Recipe("vgg19_bn", 0.9327, 2.427, "teacher-bn", ranks=RANKS, rate=0.05),
    }
    for name, gradual, accuracies in (
        ("one-shot", False, (0.8969, 0.8913, 0.8616)),
        ("gradual", True, (0.9222, 0.9157, 0.8882)),
    ):
        recipes |= _pruned(name, "vgg19", "teacher", accuracies, gradual)
    for network, alone, distilled in STUDENTS:
        short = network.replace("_", "-")
        recipes[short] = Recipe(network, alone)
        recipes[f"kd-{short}"] = Recipe(network, distilled, teacher="teacher")
    recipes["kd-nin"] = recipes["kd-nin"]._replace(paper_fewer=20.7)
    recipes |= _pruned("kd-nin-gradual", "nin", "kd-nin", (0.8929, 0.8869, 0.8544), True)
    recipes["kd-nin-gradual-0.75"] = recipes["kd-nin-gradual-0.75"]._replace(paper_fewer=85.0)
    return recipes


def _pruned(
    name: str, network: str, start: str, accuracies: Sequence[float], gradual: bool
) -> dict[str, Recipe]:
    return {
        f"{name}-{sparsity:g}": Recipe(
            network, accuracy, start=start, sparsity=sparsity, gradual=gradual
        )
        for sparsity, accuracy in zip(SPARSITIES, accuracies, strict=True)
    }


def _taught(network: str, start: str, teacher: str, rate: float) -> Recipe:
    """Pruned gradually while distilled, and stored as int8."""
    return Recipe(
        network,
        start=start,
        teacher=teacher,
        gradual=True,
        scope="erk",
        rate=rate,
        values="int8",
    )


def _ours() -> dict[str, Recipe]:
    kd = _taught("nin", "kd-nin", "teacher", rate=0.05)
    return {
        "ours-kd-nin-85x": kd._replace(fewer=85.0),
        "ours-kd-nin-170x": kd._replace(fewer=170.0),
        "ours-gated-kd-nin-170x": kd._replace(flops=0.5, fewer=170.0),
        "ours-low-rank-kd-0.875": kd._replace(
            network="vgg19_bn", start="low-rank", sparsity=0.875, scope="uniform"
        ),
    }


RECIPES: Mapping[str, Recipe] = MappingProxyType({**_papers(), **_ours()})


def _published() -> dict[str, Recipe]:
    """From published weights: a student that is small already, taught by a larger one."""
    pruned = _taught("resnet20", "resnet20", "resnet56", rate=0.02)
    return {
        "resnet56": Recipe("resnet56", published=True),
        "resnet20": Recipe("resnet20", published=True),
        "resnet20-170x": pruned._replace(fewer=170.0),
        "resnet20-340x": pruned._replace(fewer=340.0),
        "gated-resnet20-340x": pruned._replace(flops=0.6, fewer=340.0),
    }


PUBLISHED: Mapping[str, Recipe] = MappingProxyType(_published())
"""Rows that need no training from scratch, and that a few epochs on a CPU can make."""


def needed(recipe: Recipe) -> list[str]:
    """Name the rows that must be made before this one.

    Example:
        >>> needed(RECIPES["ours-kd-nin-85x"])
        ['kd-nin', 'teacher']
    """
    return [name for name in (recipe.start, recipe.teacher) if name]


def with_starts(names: Sequence[str], recipes: Mapping[str, Recipe] = RECIPES) -> list[str]:
    """Return the rows in the order they can be made, with all that they need.

    Raises:
        ValueError: if a row is unknown.

    Example:
        >>> with_starts(["kd-nin-gradual-0.75"])
        ['teacher', 'kd-nin', 'kd-nin-gradual-0.75']
    """
    unknown = [name for name in names if name not in recipes]
    if unknown:
        raise ValueError(f"rows are {', '.join(recipes)}, but not {unknown}; choose among them")
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        for other in needed(recipes[name]):
            add(other)
        ordered.setdefault(name)

    for name in names:
        add(name)
    return list(ordered)
