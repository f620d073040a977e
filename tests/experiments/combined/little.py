"""The command on digits and a small network, in the place of published weights and CIFAR-10."""

from __future__ import annotations

from typing import Any

import jax
import pytest

from experiments.combined import run
from experiments.combined.settings import Config
from experiments.common import data, report
from experiments.common.command import Command
from experiments.common.network import Network, untrained
from jaxcompress import models

NETWORK = {"num_classes": 10, "width": 8}


def original(*_: Any) -> tuple[Network, data.Dataset]:
    """Return a ResNet-8 with random weights, and a few digits."""
    dataset = data.first(data.load("digits"), train_images=96, test_images=40)
    module = models.build("resnet8", **NETWORK)
    start = models.initialize(module, jax.random.key(0), data.image_shape(dataset).shape)
    return untrained("resnet8", NETWORK, start), dataset


def main(config: Config) -> list[report.Row]:
    """Run all stages of the small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load", original)
        return run.main(config)


COMMAND = Command("tests.experiments.combined.little", __doc__, main, Config)
