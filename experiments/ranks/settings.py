"""What `experiments.ranks` compares, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from experiments.common.tuning import Tuning

__all__ = ["FACTORS", "METHODS", "PRESETS", "Config", "Factors", "Method"]

Search = Literal["uniform", "energy_threshold", "evbmf", "enc_map", "enc_model", "optimum"]
"""Methods that need the weights alone."""
Method = Literal[Search, "enc_inf", "sensitivity"]
"""All methods; the last two need images, too."""
METHODS: tuple[Method, ...] = get_args(Method)
Factors = Literal["weights", "data", "refined", "weighted"]
"""How factors are made: from the kernel; from its inputs, too; then refined on full patches; and,
last, with outputs weighted by how much they matter, for statistics that are re-estimated."""
FACTORS: tuple[Factors, ...] = get_args(Factors)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        weights: PyTorch state dict of a CIFAR ResNet, as safetensors; a ResNet-20 is trained on the
            digits where there is none.
        data_dir: folder of TFDS's prepared data.
        network: name of the network.
        dataset: name of the data set.
        flops: fractions of the network's FLOPs, each a budget.
        methods: that choose ranks, see `experiments.ranks.study`.
        factors: how they are made, see `Factors`.
        tuned: those of `factors` whose rows are fine-tuned, too, for the epochs of `tuning`.
        final: fractions at which `final_method` is really factorized and saved.
        final_method: whose ranks these are.
        final_factors: how their factors are made.
        sweeps: how often the final factors are fitted to the inputs that they themselves cause.
        lossless: step of the search for the smallest network as accurate as the original; 0: none.
        covariance_images: for the data-aware factors and the gradients.
        choice_images: that `enc_inf` judges by.
        fitting_images: of each sweep; with their positions, several times the rows of a kernel.
        statistics_images: that BatchNorm statistics are re-estimated on, augmented.
        test_images: how many test images the comparison classifies; 0 for all. The dense and the
            final networks always see all.
        tuning: of the final networks and of `tuned`.
        batch_size: images per step.
        seed: of everything random.
        workdir: where the report, the picture and the artifacts go.
    """

    weights: Path | None = None
    data_dir: Path | None = None
    network: str = "resnet56"
    dataset: str = "cifar10"
    flops: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.75)
    methods: tuple[Method, ...] = METHODS
    factors: tuple[Factors, ...] = FACTORS
    tuned: tuple[Factors, ...] = ()
    final: tuple[float, ...] = (0.4, 0.5)
    final_method: Method = "sensitivity"
    final_factors: Factors = "weighted"
    sweeps: int = 3
    lossless: float = 0.0
    covariance_images: int = 1024
    choice_images: int = 512
    fitting_images: int = 256
    statistics_images: int = 2048
    test_images: int = 0
    tuning: Tuning = Tuning()
    batch_size: int = 128
    seed: int = 0
    workdir: Path = Path("runs/rank_configuration")


DIGITS = Config(
    network="resnet20",
    dataset="digits",
    flops=(0.3,),
    methods=("uniform", "enc_map", "sensitivity"),
    factors=("weights", "weighted"),
    final=(0.3,),
    sweeps=0,
    covariance_images=256,
    choice_images=128,
    statistics_images=512,
    workdir=Path("runs/rank_configuration_digits"),
)
# ENC's released solver, of VGG-16: rate 1e-5, divided by 10 only at the last of 320,000 steps.
PAPER = dataclasses.replace(
    Config(),
    tuning=Tuning(epochs=820, rate=1e-5, schedule="constant", distillation=0.0),
    workdir=Path("runs/rank_configuration_paper"),
)
PRESETS: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "resnet56": ("ResNet-56 on CIFAR-10, without fine-tuning", Config()),
        "paper": ("ResNet-56 on CIFAR-10, fine-tuned for as long as ENC", PAPER),
        "digits": ("ResNet-20 on scikit-learn's digits, in a minute", DIGITS),
    }
)
