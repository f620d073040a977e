"""What `experiments.limited_resources` compresses, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from experiments.common.data import DIGITS_VIEWS
from experiments.common.distill import Method
from experiments.common.student import Student

__all__ = ["PRESETS", "Config"]


@dataclasses.dataclass(frozen=True)
class Config(Student):
    """What is compressed, and how.

    Attributes:
        method: how the student is taught.
        project: only project the device-hours, on random images of this size; 0 to run.
        workdir: where everything is written.
    """

    method: Method = "crossed"
    project: int = 0
    workdir: Path = Path("runs/limited_resources")


PRESETS: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "digits": (
            "ResNet-20 on scikit-learn's digits, minutes on a CPU",
            Config(
                network="resnet20",
                features="stage3_block2",
                dataset="digits",
                flops=0.5,
                views=DIGITS_VIEWS,
                teacher_epochs=20,
                student_epochs=10,
                statistics_images=1408,
            ),
        ),
        "cifar10_resnet56": ("55 % of ResNet-56's FLOPs removed, as EKG", Config()),
        "cifar10_mobilenet_v2": (
            "55 % of MobileNetV2's FLOPs removed",
            Config(
                network="mobilenet_v2",
                network_config={"stem_stride": 1, "stage2_stride": 1},
                features="stage7_block0",
            ),
        ),
        "imagenet_resnet50": (
            "55.2 % of ResNet-50's FLOPs removed: projected device-hours",
            Config(
                network="resnet50",
                features="stage4_block2",
                dataset="imagenet2012",
                flops=0.448,
                project=224,
                student_epochs=100,
                batch_size=64,
            ),
        ),
    }
)
