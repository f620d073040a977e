"""Where the time of a training step goes on one CPU core, by kind of operation."""

from __future__ import annotations

import collections
import glob
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.common.timing import Stopwatch
from jaxcompress import models
from jaxcompress.annotations import Array, Batch
from jaxcompress.backend import fast_convolutions
from jaxcompress.training import init_state, train_step

__all__ = ["BATCH", "processor_seconds", "profile", "step"]

BATCH = 128


def processor_seconds(call: Callable[[], Any], repeats: int = 7) -> float:
    """Return the median processor time of a call, after two."""
    times = []
    for _ in range(repeats + 2):
        watch = Stopwatch(time.process_time)
        jax.block_until_ready(call())
        times.append(watch.seconds)
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
    milliseconds: dict[str, float] = collections.defaultdict(float)
    events = [e for plane in planes for line in plane.lines if line.name.startswith("tf_XLAEigen")
              for e in line.events]  # fmt: skip
    for event in events:
        if "ThunkExecutor" in event.name or "::" in event.name:
            continue
        kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, event.name))
        milliseconds[kind] += event.duration_ns / 1e6 / steps
    return dict(milliseconds)


def step(fast: bool, network: str) -> Callable[[], Any]:
    """Return a call that trains one step and waits for it."""
    module = models.build(network)
    variables = models.initialize(module, jax.random.key(0), (1, 32, 32, 3))
    train, key = models.training_function(module), jax.random.key(1)
    batch = {"image": jax.random.normal(key, (BATCH, 32, 32, 3)), "label": jnp.arange(BATCH) % 10}

    def loss(params: Array, batch: Batch, key: jax.Array) -> Any:
        logits, state = train(params, batch["image"], key)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return values.mean(), (state, {})

    tx = optax.sgd(0.01, momentum=0.9)
    plain = train_step(loss, tx)
    compiled = jax.jit(fast_convolutions(plain) if fast else plain)
    state = init_state(variables, tx)
    return lambda: jax.block_until_ready(compiled(state, batch, key))
