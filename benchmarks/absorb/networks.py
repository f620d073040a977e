"""The networks that are pruned, with their weights and images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from experiments.common import data
from jaxcompress import models
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.artifact import (
    akamaster_resnet_name,
    load_efficientnet_lite,
    load_torch_weights,
)

__all__ = ["Images", "Task", "load_task"]


IMAGENET = (1, 224, 224, 3)


class Images(NamedTuple):
    """Images as a network takes them, and labels."""

    images: Array
    labels: np.ndarray


class Task(NamedTuple):
    """A network to prune.

    Attributes:
        apply: in evaluation mode.
        train_apply: in training mode.
        variables: the published ones.
        statistics: for means, BatchNorm and scores.
        test: to classify.
        prepare: makes inputs of images.
        batch_size: of everything.
    """

    apply: Function
    train_apply: Function
    variables: PyTree
    statistics: Images
    test: Images
    prepare: Callable[[Any], Any]
    batch_size: int


def load_task(network: str, data_dir: Path, statistics_images: int, test: slice, seed: int) -> Task:
    """Load a network by name; EfficientNet-Lite0 takes 200 and 300 of 500 images."""
    weights = data_dir / "weights"
    if network == "efficientnet_lite0":
        split = _imagenet(data_dir / "imagenet_sample", seed)
        file = weights / "efficientnet_lite0_imagenet.safetensors"
        parts = _loaded(models.build(network), partial(load_efficientnet_lite, file), IMAGENET)
        return Task(*parts, *split, lambda images: (images.astype(np.float32) - 127) / 128, 50)
    dataset = data.load("cifar10", data_dir / "tensorflow_datasets")
    mean, std = data.IMAGENET
    file = weights / f"{network}_cifar10.safetensors"
    read = partial(load_torch_weights, file, rename=akamaster_resnet_name)
    parts = _loaded(models.build(network), read, (1, 32, 32, 3))
    train = np.random.default_rng(seed).permutation(len(dataset.train_labels))[:statistics_images]
    statistics = Images(dataset.train_images[train], dataset.train_labels[train])
    judged = Images(dataset.test_images[test], dataset.test_labels[test])
    return Task(*parts, statistics, judged, data.Normalize(mean, std), 128)


def _loaded(
    module: nn.Module, read: Callable[[PyTree], PyTree], shape: tuple[int, ...]
) -> tuple[Function, Function, Any]:
    like = jax.eval_shape(lambda key: models.initialize(module, key, shape), jax.random.key(0))
    return models.evaluation_function(module), models.training_function(module), read(like)


def _imagenet(folder: Path, seed: int) -> tuple[Images, Images]:
    """Read the images, centre crops of 224 pixels, and split them at random."""
    from PIL import Image

    classes = (folder / "classes.txt").read_text().split()
    files = sorted(folder.glob("n*/*.JPEG"))
    crops = []
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        left, top = ((size - 224) // 2 for size in image.size)
        crops.append(np.asarray(image.crop((left, top, left + 224, top + 224)), np.uint8))
    images = np.stack(crops)
    labels = np.array([classes.index(file.parent.name) for file in files], np.int32)
    order = np.random.default_rng(seed).permutation(len(files))
    first, rest = order[:200], order[200:]
    return Images(images[first], labels[first]), Images(images[rest], labels[rest])
