"""What convolutions of images smaller than their kernel cost on the CPU, and as matrix products.

    python -m benchmarks.small_images

GFLOP/s of one 3x3 convolution of 512 channels over images of some sizes, and seconds of a training
step of VGG-19 (batch 32), each with and without `experiments.small_images.as_products`. Writes
`benchmarks/results/small_images.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import report
from experiments.environment import describe
from experiments.small_images import as_products
from jaxcompress import models
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.training import init_state, train_step

__all__ = ["convolution_rates", "main", "step_seconds"]

FORMS: dict[str, Callable[..., Any]] = {"plain": lambda f: f, "as_products": as_products}


def convolution_rates(size: int, channels: int = 512, batch: int = 64) -> dict[str, float]:
    """Return GFLOP/s of a 3x3 convolution of `size` x `size` images, in each form."""
    images, kernel = jnp.ones((batch, size, size, channels)), jnp.ones((3, 3, channels, channels))

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )

    flops = 2 * batch * size**2 * 9 * channels**2
    found = {}
    for name, form in FORMS.items():
        seconds = report.latency_ms(jax.jit(form(convolve)), images, kernel, repeats=3) / 1e3
        found[name] = flops / seconds / 1e9
    return found


def step_seconds(batch_size: int = 32) -> dict[str, float]:
    """Return the seconds of a training step of VGG-19, in each form."""
    module, key = models.build("vgg19"), jax.random.key(0)
    variables = models.initialize(module, key, (1, 32, 32, 3))
    labels = jnp.arange(batch_size) % 10
    batch = {"image": jax.random.normal(key, (batch_size, 32, 32, 3)), "label": labels}
    tx = optax.sgd(0.01, momentum=0.9)
    found = {}
    for name, form in FORMS.items():
        apply = form(models.training(module))

        def loss(own: Any, batch: Any, key: jax.Array, apply: Any = apply) -> Any:
            logits, state = apply(own, batch["image"], key)
            return cross_entropy(logits, batch["label"]).mean(), (state, {})

        step = jax.jit(train_step(loss, tx))
        state = init_state(variables, tx)
        found[name] = report.latency_ms(step, state, batch, key, repeats=3) / 1e3
    return found


def main() -> None:
    """Measure, print, and write down."""
    content = {
        "gflops_per_second": {f"{size}x{size}": convolution_rates(size) for size in (2, 4)},
        "vgg19_step_seconds": step_seconds(),
        "environment": describe(),
    }
    print(json.dumps(content, indent=2))
    path = Path(__file__).parent / "results" / "small_images.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
