"""Settings that all experiments share which prune a teacher and teach what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.common.score import Importance
from jaxcompress.knowledge import Views

__all__ = ["Student"]


@dataclasses.dataclass(frozen=True)
class Student:
    """What is compressed, and how.

    Attributes:
        network: its name.
        network_config: fields of the network that its name leaves open.
        features: the submodule whose output, averaged over the image, is stored and taught.
        before_features: the submodule before it, of a CIFAR ResNet whose streams stay whole: its
            statistics are stored as well, for the method `tail`; None without.
        stored_views: how many views of each image are stored, for `views` and `crossed`.
        dataset: its name.
        data_dir: folder of TFDS's prepared data.
        weights: PyTorch state dict of the teacher, as safetensors; None to train one.
        flops: largest fraction of the FLOPs that may remain.
        streams: prune residual streams too, not only the widths inside blocks.
        importance: how channels are scored.
        views: augmentation of training.
        teacher_epochs: passes over the training images, where the teacher is trained.
        student_epochs: passes while fine-tuning.
        teacher_rate: learning rate of the teacher.
        student_rate: learning rate of fine-tuning.
        batch_size: images per update, which the rates are for.
        accumulate_steps: equal parts of a batch, whose gradients are added up where a whole one
            does not fit; a part is what BatchNorm sees.
        train_images: how many training images are used; 0 for all.
        test_images: how many test images are classified; 0 for all.
        statistics_images: training images that BatchNorm statistics are re-estimated on.
        temperature: of distillation.
        seed: of everything random.
        workdir: where everything is written.
    """

    network: str = "resnet56"
    network_config: dict[str, int] = dataclasses.field(default_factory=dict)
    features: str = "stage3_block8"
    before_features: str | None = None
    stored_views: int = 2
    dataset: str = "cifar10"
    data_dir: Path | None = None
    weights: Path | None = None
    flops: float = 0.45
    streams: bool = True
    importance: Importance = "learned"
    views: Views = Views()
    teacher_epochs: int = 200
    student_epochs: int = 100
    teacher_rate: float = 0.1
    student_rate: float = 0.02
    batch_size: int = 128
    accumulate_steps: int = 1
    train_images: int = 0
    test_images: int = 0
    statistics_images: int = 4096
    temperature: float = 4.0
    seed: int = 0
    workdir: Path = Path("runs/student")
