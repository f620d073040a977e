"""Ways to compute convolutions and their gradients on one CPU core, and where a step's time goes.

    python -m benchmarks.cpu_convolutions

Prints GFLOP/s of every try at shapes of a CIFAR ResNet (batch 128), by processor time, median of
seven, beside what was predicted; then the share of each kind of operation in a training step of
ResNet-20, from JAX's profiler. Writes `benchmarks/results/cpu_convolutions.json`.
"""

from __future__ import annotations

import collections
import functools
import glob
import itertools
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import optax

from experiments.common.environment import describe
from jaxcompress import models
from jaxcompress.backend import fast_convolutions, onednn
from jaxcompress.training import init_state, train_step

__all__ = ["TRIES", "main", "profile", "rates"]

BATCH = 128
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
    own = result.reshape(-1, result.shape[-1])
    taps = [contract(seen, own) for seen in shifts(images, stride, result.shape[1])]
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
}


REPLACED = ("forward, oneDNN", "images' gradient, oneDNN")


def rates(shape: tuple[int, int, int, int], dtype: str) -> dict[str, float]:
    """Return GFLOP/s of every try at one shape."""
    size, into, out, stride = shape
    images = jax.random.normal(jax.random.key(0), (BATCH, size, size, into), dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, into, out), dtype)
    result = convolve(images, kernel, stride)
    flops, found = 2 * 9 * result.size * into, {}
    for name, (_, function) in TRIES.items():
        if function is shifted_both and stride > 1:
            continue
        bound = functools.partial(function, stride=stride)
        call = jax.jit(fast_convolutions(bound) if name in REPLACED else bound)
        seconds = processor_seconds(lambda call=call: call(images, kernel, result))
        found[name] = flops / seconds / 1e9
    return found


def processor_seconds(call: Callable[[], Any], repeats: int = 7) -> float:
    """Return the median processor time of a call, after two."""
    times = []
    for _ in range(repeats + 2):
        started = time.process_time()
        jax.block_until_ready(call())
        times.append(time.process_time() - started)
    return statistics.median(times[2:])


KINDS = {
    "oneDNN convolutions": r"onednn",
    "XLA convolutions": r"^(conv|ynn_)",
    "stored operands": r"^(cond|branch|copy(\.|$))",
    "transposes": r"transpose",
    "element-wise and reductions": r"",
}


def profile(fast: bool, network: str = "resnet20", steps: int = 3) -> dict[str, float]:
    """Return milliseconds per training step of each kind of operation."""
    call = step(fast, network)
    call(), call()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                call()
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = list(jax.profiler.ProfileData.from_file(file).planes)
    found: dict[str, float] = collections.Counter()
    events = [e for plane in planes for line in plane.lines if line.name.startswith("tf_XLAEigen")
              for e in line.events]  # fmt: skip
    for event in events:
        if "ThunkExecutor" in event.name or "::" in event.name:
            continue
        kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, event.name))
        found[kind] += event.duration_ns / 1e6 / steps
    return dict(found)


def step(fast: bool, network: str) -> Callable[[], Any]:
    """Return a call that trains one step and waits for it."""
    module = models.build(network)
    variables = models.initialize(module, jax.random.key(0), (1, 32, 32, 3))
    train, key = models.training_function(module), jax.random.key(1)
    batch = {"image": jax.random.normal(key, (BATCH, 32, 32, 3)), "label": jnp.arange(BATCH) % 10}

    def loss(own: Any, batch: Any, key: jax.Array) -> Any:
        logits, state = train(own, batch["image"], key)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return values.mean(), (state, {})

    tx = optax.sgd(0.01, momentum=0.9)
    plain = train_step(loss, tx)
    compiled = jax.jit(fast_convolutions(plain) if fast else plain)
    state = init_state(variables, tx)
    return lambda: jax.block_until_ready(compiled(state, batch, key))


def main() -> None:
    """Measure, print and write everything."""
    rows = []
    for dtype, shape in itertools.product(("float32", "bfloat16"), SHAPES):
        for name, rate in rates(shape, dtype).items():
            # Predictions were made for float32.
            told = {"predicted": TRIES[name][0]} if dtype == "float32" else {}
            rows.append({"dtype": dtype, "shape": shape, "try": name, **told, "gflops": rate})
            print(f"{dtype} {shape} {name}: {rate:.1f} GFLOP/s {told}", flush=True)
    report = {"environment": describe(), "batch": BATCH, "rows": rows, "profiles": {}}
    for name, fast in (("jit", False), ("fast", True)):
        call = step(fast, "resnet20")
        seconds = processor_seconds(call)
        kinds = profile(fast)
        report["profiles"][name] = {"processor_seconds": seconds, "milliseconds": kinds}
        parts = ", ".join(f"{kind} {own:.0f} ms" for kind, own in kinds.items())
        print(f"ResNet-20 step, {name}: {1000 * seconds:.0f} ms; {parts}", flush=True)
    path = Path(__file__).parent / "results" / "cpu_convolutions.json"
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
