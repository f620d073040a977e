"""Convolutions inside loops on a CPU: training steps in a scan, and gradients through all of them.

    python -m benchmarks.loops

Processor seconds of a few training steps of a CIFAR ResNet in `jax.lax.scan`, and of the gradient
of the last loss with respect to the first variables (a meta-gradient), by `jax.jit` alone and with
`fast_convolutions`; and how far the two results are from each other. Writes
`benchmarks/results/loops.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cpu_profile import processor_seconds
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from jaxcompress import models
from jaxcompress.annotations import Batch, Json, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge import cross_entropy

__all__ = ["COMMAND", "Config", "main"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        network: one of the registry, of 32 x 32 images.
        steps: of training in the loop.
        batch_size: images of each.
        repeats: of which the median is taken, after two.
        output: the JSON file.
    """

    network: str = "resnet20"
    steps: int = 3
    batch_size: int = 32
    repeats: int = 3
    output: Path = Path("benchmarks/results/loops.json")


def main(config: Config) -> dict[str, Json]:
    """Measure, print and write."""
    prepare()
    module = models.build(config.network)
    variables = models.initialize(module, jax.random.key(0), (1, 32, 32, 3))
    shape = (config.steps, config.batch_size)
    batches = {
        "image": jax.random.normal(jax.random.key(1), (*shape, 32, 32, 3)),
        "label": jax.random.randint(jax.random.key(2), shape, 0, 10),
    }
    rows = []
    for name, function in functions(models.training_function(module)).items():
        rows.append({"name": name, **_compared(function, (variables, batches), config.repeats)})
        print(rows[-1], flush=True)
    settings = {**dataclasses.asdict(config), "output": str(config.output)}
    report = {"environment": describe(), "config": settings, "rows": rows}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(report, indent=2) + "\n")
    return report


def functions(train_apply: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return training in a scan, and the gradient of its last loss, of `(variables, batches)`."""

    def loss(params: PyTree, rest: PyTree, batch: Batch) -> jax.Array:
        logits, _ = train_apply({**rest, "params": params}, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    def trained(variables: PyTree, batches: Batch) -> tuple[PyTree, jax.Array]:
        rest = {name: value for name, value in variables.items() if name != "params"}

        def step(params: PyTree, batch: Batch) -> tuple[PyTree, jax.Array]:
            value, slopes = jax.value_and_grad(loss)(params, rest, batch)
            return jax.tree.map(lambda leaf, slope: leaf - 0.01 * slope, params, slopes), value

        return jax.lax.scan(step, variables["params"], batches)

    last = lambda variables, batches: trained(variables, batches)[1][-1]  # noqa: E731
    return {"training in a scan": trained, "gradient through it": jax.grad(last)}


def _compared(function: Callable[..., Any], args: Any, repeats: int) -> dict[str, float]:
    """Return the processor seconds without and with fast convolutions, and the largest error."""
    calls = [jax.jit(each) for each in (function, fast_convolutions(function))]
    wanted, actual = (jax.tree.leaves(jax.device_get(call(*args))) for call in calls)
    largest = max(float(np.abs(leaf).max()) for leaf in wanted)
    errors = [float(jnp.abs(a - b).max()) for a, b in zip(wanted, actual, strict=True)]
    plain, fast = (processor_seconds(functools.partial(call, *args), repeats) for call in calls)
    return {"plain_seconds": plain, "fast_seconds": fast, "error": max(errors) / largest}


COMMAND = Command("benchmarks.loops", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
