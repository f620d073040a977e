"""What `experiments.prune` prunes, and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.common.score import Importance

__all__ = ["Config"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is pruned, and how.

    Attributes:
        weights: PyTorch state dict of a CIFAR ResNet, as safetensors.
        data_dir: folder of TFDS's prepared data.
        network: name of the network.
        dataset: name of the data set.
        flops: largest fraction of the FLOPs that may remain.
        importance: how channels are scored, see `experiments.common.score`.
        streams: prune residual streams too, not only the widths inside blocks.
        multiple_of: widths are multiples of this.
        statistics_images: training images that BatchNorm statistics are re-estimated on.
        augment_statistics: augment those images; without it even an unpruned network loses.
        epochs: of fine-tuning; 0 for none.
        train_images: how many training images fine-tuning sees; 0 for all.
        rate: learning rate of fine-tuning.
        temperature: of the distillation.
        batch_size: images per step.
        seed: of everything random.
        workdir: where the report, the picture and the artifacts go.
    """

    weights: Path
    data_dir: Path
    network: str = "resnet56"
    dataset: str = "cifar10"
    flops: float = 0.5
    importance: Importance = "learned"
    streams: bool = False
    multiple_of: int = 1
    statistics_images: int = 4096
    augment_statistics: bool = True
    epochs: int = 0
    train_images: int = 0
    rate: float = 0.02
    temperature: float = 4.0
    batch_size: int = 128
    seed: int = 0
    workdir: Path = Path("runs/prune")
