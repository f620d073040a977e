"""What depthwise convolutions cost on a CPU, by XLA's own loops and as shifted products.

    python -m benchmarks.depthwise

Convolutions of MobileNetV2 with both gradients, at the widths it has for CIFAR-10, and one training
step of the whole network; seconds of the processor, median of five. Writes
`benchmarks/results/depthwise.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.cpu_profile import processor_seconds
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from jaxcompress import models, training
from jaxcompress.annotations import Function, Json
from jaxcompress.backend import fast_convolutions
from jaxcompress.files import write_json
from jaxcompress.knowledge import cross_entropy

__all__ = ["COMMAND", "Config", "main"]

SHAPES = ((32, 32, 1), (32, 144, 1), (16, 192, 2), (16, 384, 1), (8, 576, 2), (4, 960, 1))
"""Height, channels, stride."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        batch_size: images.
        repeats: of each, of which the median counts.
        output: the rows.
    """

    batch_size: int = 64
    repeats: int = 5
    output: Path = Path("benchmarks/results/depthwise.json")


def one(size: int, channels: int, stride: int, batch: int) -> tuple[Function, tuple[Any, ...]]:
    """Return a convolution's gradients, and what they are of."""

    def loss(images: jax.Array, kernel: jax.Array) -> jax.Array:
        result = jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )
        return jnp.sin(result).sum()

    keys = jax.random.split(jax.random.key(0))
    images = jax.random.normal(keys[0], (batch, size, size, channels))
    kernel = jax.random.normal(keys[1], (3, 3, 1, channels))
    return jax.value_and_grad(loss, (0, 1)), (images, kernel)


def whole(batch: int) -> tuple[Function, tuple[Any, ...]]:
    """Return a training step of MobileNetV2 for CIFAR-10."""
    module = models.build("mobilenet_v2", num_classes=10, stem_stride=1, stage2_stride=1)
    apply = models.training_function(module)
    images = jax.random.normal(jax.random.key(0), (batch, 32, 32, 3))
    variables, tx = models.initialize(module, jax.random.key(1), images[:1]), optax.sgd(0.1)

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        logits, state = apply(variables, batch["image"], key)
        return cross_entropy(logits, batch["label"]).mean(), (state, {})

    step = training.train_step(loss, tx)
    given = {"image": images, "label": np.arange(batch) % 10}
    return step, (training.init_state(variables, tx), given, jax.random.key(2))


def seconds(function: Function, arguments: tuple[Any, ...], repeats: int) -> list[float]:
    """Return processor seconds of a function as it is, and as `fast_convolutions` makes it."""
    ways: list[Callable[..., Any]] = [jax.jit(function), jax.jit(fast_convolutions(function))]
    return [processor_seconds(partial(way, *arguments), repeats) for way in ways]


def main(config: Config) -> None:
    """Measure, and write the rows."""
    prepare()
    batch = config.batch_size
    tries: list[tuple[dict[str, Json], Any]] = [
        (dict(zip(("size", "channels", "stride"), shape, strict=True)), one(*shape, batch))
        for shape in SHAPES
    ]
    tries.append(({"network": "mobilenet_v2"}, whole(batch)))
    rows = []
    for about, (function, arguments) in tries:
        plain, fast = seconds(function, arguments, config.repeats)
        rows.append({**about, "plain_seconds": plain, "fast_seconds": fast})
        print(rows[-1], flush=True)
    settings = {"batch_size": batch, "repeats": config.repeats}
    write_json(config.output, {"environment": describe(), "config": settings, "rows": rows})


COMMAND = Command("benchmarks.depthwise", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
