"""What `experiments.imagenet` compresses, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from experiments.common.data import IMAGENET

__all__ = ["PRESETS", "Config", "Scoring"]


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How much is looked at before channels go; see `jaxcompress.recipes.Learned`.

    Attributes:
        rounds: random masks at which channels are scored first.
        masked_images: images at each mask.
        steps: by which gates are learned from there; 0 for the first scores alone.
        examples: images of each step.
        compensated_images: images on which kernels make up for the channels that go.
        statistics_images: images on which BatchNorm is re-estimated.
    """

    rounds: int = 32
    masked_images: int = 32
    steps: int = 120
    examples: int = 128
    compensated_images: int = 512
    statistics_images: int = 4096


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compressed, and how.

    Attributes:
        network: its name.
        network_config: fields of the network that its name leaves open.
        weights: published ones as safetensors, or an artifact's folder.
        dtype: that the network computes in; variables stay float32.
        dataset: a name that TFDS has prepared as ArrayRecord, or `folder`: of images by class.
        data_dir: TFDS's folder, or that of the images.
        image_size: height and width of what the network is given.
        mean: of each channel of pixels scaled to 0..1, as the weights expect.
        std: likewise.
        least_area: the smallest part of an image that a view may be.
        test_share: share of a folder's images that is tested on, where it has no test part.
        train_images: how many are used; 0 for all.
        test_images: how many are classified; 0 for all.
        flops: largest fraction of the FLOPs that may remain.
        protect: patterns of leaf paths whose channels stay.
        multiple_of: widths are multiples of this.
        scoring: how much is looked at before channels go.
        stored_views: how many views of each image the teacher answers, and the lesson shows.
        top_k: logits that are stored of each view; all others count as one.
        temperature: of distillation.
        distillation: weight of the teacher's answers; labels have the rest.
        epochs: passes of the lesson.
        warmup_epochs: passes in which the rate rises.
        rate: highest learning rate for 256 images an update; more images take more.
        batch_size: images per update, on all devices together.
        accumulate_steps: equal parts of a batch, whose gradients are added up where a whole one
            does not fit; a part is what BatchNorm sees.
        ema: decay, by each update, of the average of the variables that the student is; 0 for the
            last ones.
        save_steps: updates between checkpoints of the lesson.
        threads: that read and decode.
        workers: processes that read beside this one; 0 for this one alone.
        project: only project the device-hours.
        seed: of everything random.
        workdir: where everything is written.
    """

    network: str = "resnet50"
    network_config: dict[str, int] = dataclasses.field(default_factory=dict)
    weights: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    dataset: str = "imagenet2012"
    data_dir: Path | None = None
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    least_area: float = 0.08
    test_share: float = 0.5
    train_images: int = 0
    test_images: int = 0
    flops: float = 0.448
    protect: tuple[str, ...] = ()
    multiple_of: int = 8
    scoring: Scoring = Scoring()
    stored_views: int = 2
    top_k: int = 16
    temperature: float = 4.0
    distillation: float = 0.5
    epochs: int = 100
    warmup_epochs: int = 5
    rate: float = 0.02
    batch_size: int = 1024
    accumulate_steps: int = 1
    ema: float = 0.0
    save_steps: int = 1000
    threads: int = 16
    workers: int = 0
    project: bool = False
    seed: int = 0
    workdir: Path = Path("runs/imagenet")


_LITE = Config(
    network="efficientnet_lite0",
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    # The stream and the head bear less than the widths inside blocks.
    protect=("*/project_bn/*", "*/head_bn/*"),
)

PRESETS: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "resnet50": ("55.2 % of ResNet-50's FLOPs removed, as the paper", Config()),
        "efficientnet_lite0": ("55.2 % of EfficientNet-Lite0's FLOPs removed", _LITE),
        "sample": (
            "a fifth of EfficientNet-Lite0's FLOPs removed by 250 images: minutes on a CPU",
            dataclasses.replace(
                _LITE,
                dataset="folder",
                dtype="float32",
                least_area=0.35,
                flops=0.8,
                multiple_of=1,
                scoring=Scoring(16, 16, 12, 16, 128, 250),
                epochs=3,
                warmup_epochs=0,
                # At 0.02, 250 images teach less than they take.
                rate=0.002,
                batch_size=25,
                save_steps=20,
                threads=2,
                workdir=Path("runs/imagenet_sample"),
            ),
        ),
    }
)
