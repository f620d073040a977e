"""Networks with published weights, on data normalised as those weights expect."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.common import data
from experiments.common.network import Network, published_variables, untrained
from jaxcompress import models

__all__ = ["load"]


def load(
    network: str, weights: Path, dataset: str, data_dir: Path | None
) -> tuple[Network, data.Dataset]:
    """Load a CIFAR ResNet and its data, refusing what does not fit before any work starts.

    Args:
        network: name of the network.
        weights: PyTorch state dict, as safetensors.
        dataset: name of the data set.
        data_dir: folder of TFDS's prepared data.

    Raises:
        FileNotFoundError: if the data or the weights are not there.
        ValueError: if the weights are another network's.
    """
    images = data.load(dataset, data_dir)
    mean, std = data.IMAGENET
    images = dataclasses.replace(images, mean=mean, std=std)
    config = {"num_classes": images.num_classes}
    module = models.build(network, num_classes=images.num_classes)
    variables = published_variables(module, data.image_shape(images).shape, weights)
    return untrained(network, config, variables), images
