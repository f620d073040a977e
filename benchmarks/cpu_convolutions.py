"""Ways to compute convolutions and their gradients on one CPU core, and where a step's time goes.

    python -m benchmarks.cpu_convolutions

Prints GFLOP/s of every try at shapes of a CIFAR ResNet (batch 128), by processor time, median of
seven, beside what was predicted; then the share of each kind of operation in a training step of
ResNet-20, from JAX's profiler. Writes `benchmarks/results/cpu_convolutions.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.cores import limit_cores
from benchmarks.cpu_profile import BATCH, processor_seconds, profile, step
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from jaxcompress.backend import fast_convolutions, onednn

__all__ = ["COMMAND", "TRIES", "main", "rates"]

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
# size, channels in, out, stride
SHAPES = [(32, 16, 16, 1), (16, 32, 32, 1), (8, 64, 64, 1), (32, 16, 32, 2), (32, 3, 16, 1)]


def convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The plain 3x3 convolution."""
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def forward(images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int) -> jax.Array:
    """The convolution itself."""
    return convolve(images, kernel, stride)


def images_gradient(
    images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int
) -> jax.Array:
    """The gradient of the images."""
    return jax.vjp(lambda x: convolve(x, kernel, stride), images)[1](result)[0]


def kernel_gradient(
    images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int
) -> jax.Array:
    """The gradient of the kernel."""
    return jax.vjp(lambda w: convolve(images, w, stride), kernel)[1](result)[0]


def shifts(images: jax.Array, stride: int, size: int) -> list[jax.Array]:
    """Return what each of the nine taps sees, `[pixels, channels]`."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    steps = [slice(first, first + stride * size, stride) for first in range(3)]
    return [padded[:, rows, columns].reshape(-1, images.shape[-1]) for rows in steps
            for columns in steps]  # fmt: skip


def contract(left: jax.Array, right: jax.Array) -> jax.Array:
    """Sum over the leading axis of both."""
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())))


def nine_products(
    images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int
) -> jax.Array:
    """The gradient of the kernel as one product per tap."""
    flat = result.reshape(-1, result.shape[-1])
    taps = [contract(seen, flat) for seen in shifts(images, stride, result.shape[1])]
    return jnp.stack(taps).reshape(kernel.shape)


def patches_product(
    images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int
) -> jax.Array:
    """The gradient of the kernel as one product with all patches."""
    patches = jnp.concatenate(shifts(images, stride, result.shape[1]), -1)
    return contract(patches, result.reshape(-1, result.shape[-1])).reshape(kernel.shape)


def shifted_both(images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int) -> jax.Array:
    """The gradient of the kernel as one product of columns' shifts and rows' shifts (stride 1)."""
    width, height = images.shape[2], images.shape[1]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    left = jnp.concatenate([padded[:, :, j : j + width] for j in range(3)], -1)
    tall = jnp.pad(result, ((0, 0), (2, 2), (0, 0), (0, 0)))
    right = jnp.concatenate([tall[:, 2 - i : 4 - i + height] for i in range(3)], -1)
    product = contract(left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]))
    whole = product.reshape(3, images.shape[-1], 3, result.shape[-1])
    return whole.transpose(2, 0, 1, 3)


def over_channels(
    images: jax.Array, kernel: jax.Array, result: jax.Array, stride: int
) -> jax.Array:
    """The gradient of the kernel as oneDNN's convolution over height, width and channels."""
    volume, taps = images.transpose(1, 2, 3, 0)[None], result.transpose(1, 2, 0, 3)[:, :, None]
    pads = (1, 1) if stride == 1 else (1, 0)
    return onednn.convolution(volume, taps, (1, 1, 1), (pads, pads, (0, 0)), (stride, stride, 1))[0]


TRIES: dict[str, tuple[str, Callable[..., jax.Array]]] = {
    "forward, XLA": ("50-100 GFLOP/s, as measured before", forward),
    "forward, oneDNN": ("as PyTorch's channels-last: 70-125", forward),
    "images' gradient, XLA": ("as forward; a third where strided", images_gradient),
    "images' gradient, oneDNN": ("as forward, in phases too", images_gradient),
    "kernel's gradient, XLA": ("23-60, two transposes each", kernel_gradient),
    "kernel's gradient, nine products": ("over 60: no transpose", nine_products),
    "kernel's gradient, product of patches": ("over 60, nine times the memory", patches_product),
    "kernel's gradient, both shifted": ("over 80: square, three times the memory", shifted_both),
    "kernel's gradient, oneDNN over channels": ("100 from 16 channels on", over_channels),
    "kernel's gradient, by parts": (
        "as over channels, twice as fast where wide",
        kernel_gradient,
    ),
}


REPLACED = (
    "forward, oneDNN",
    "images' gradient, oneDNN",
    "kernel's gradient, by parts",
)


def rates(shape: tuple[int, int, int, int], dtype: str) -> dict[str, float]:
    """Return GFLOP/s of every try at one shape."""
    size, into, out, stride = shape
    images = jax.random.normal(jax.random.key(0), (BATCH, size, size, into), dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, into, out), dtype)
    result = convolve(images, kernel, stride)
    flops, speeds = 2 * 9 * result.size * into, {}
    for name, (_, function) in TRIES.items():
        if function is shifted_both and stride > 1:
            continue
        bound = functools.partial(function, stride=stride)
        call = jax.jit(fast_convolutions(bound) if name in REPLACED else bound)
        seconds = processor_seconds(functools.partial(call, images, kernel, result))
        speeds[name] = flops / seconds / 1e9
    return speeds


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the rates go.

    Attributes:
        output: the JSON file.
    """

    output: Path = Path("benchmarks/results/cpu_convolutions.json")


def main(config: Config) -> None:
    """Measure, print and write everything."""
    prepare()
    limit_cores(1)
    # Read when JAX starts its backend, which nothing did before.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}"
    rows = []
    for dtype, shape in itertools.product(onednn.dtypes(), SHAPES):
        for name, rate in rates(shape, dtype).items():
            # Predictions were made for float32.
            told = {"predicted": TRIES[name][0]} if dtype == "float32" else {}
            rows.append({"dtype": dtype, "shape": shape, "try": name, **told, "gflops": rate})
            print(f"{dtype} {shape} {name}: {rate:.1f} GFLOP/s {told}", flush=True)
    report: dict[str, Any] = {
        "environment": describe(),
        "batch": BATCH,
        "rows": rows,
        "profiles": {},
    }
    for name, fast in (("jit", False), ("fast", True)):
        call = step(fast, "resnet20")
        seconds = processor_seconds(call)
        kinds = profile(fast)
        report["profiles"][name] = {"processor_seconds": seconds, "milliseconds": kinds}
        parts = ", ".join(f"{kind} {milliseconds:.0f} ms" for kind, milliseconds in kinds.items())
        print(f"ResNet-20 step, {name}: {1000 * seconds:.0f} ms; {parts}", flush=True)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(report, indent=2) + "\n")


COMMAND = Command("benchmarks.cpu_convolutions", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
