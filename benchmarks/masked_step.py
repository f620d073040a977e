"""What a training step under masks costs: time over that of the same step without, goal <= 1.10.

    python -m benchmarks.masked_step

ResNet-20 at batch 128 with SGD, momentum and weight decay. The steps take turns, so that a busy
machine slows all alike; the ratio is the median over rounds. The masked steps are measured between
two events of the schedule, and at an event, where masks are chosen anew.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress import models, sparse
from jaxcompress.annotations import Array, Batch, Function
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.sparse.schedule import one_shot, periodic
from jaxcompress.training import TrainState, init_state, train_step

__all__ = ["COMMAND", "main", "masked_step_ratios"]


def masked_step_ratios(rounds: int = 10, batch_size: int = 128) -> dict[str, float]:
    """Return the median seconds of the dense step, and each masked step's ratio to it."""
    module = models.build("resnet20")
    train_apply = models.training_function(module)
    key = jax.random.key(0)
    variables = models.initialize(module, key, (1, 32, 32, 3))
    batch = {
        "image": jax.random.normal(key, (batch_size, 32, 32, 3)),
        "label": jnp.arange(batch_size) % 10,
    }

    def loss(params: Array, batch: Batch, _: jax.Array) -> Any:
        logits, state = train_apply(params, batch["image"])
        return cross_entropy(logits, batch["label"]).mean(), (state, {})

    dense = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, momentum=0.9))
    optimizers = {
        "dense": dense,
        "masked": sparse.sparse_optimizer(dense, one_shot(0.75)),
        "masked, an event each step": sparse.sparse_optimizer(
            dense, periodic(0.75, end=1000, every=1)
        ),
    }
    runs = {
        name: _Run(train_step(loss, tx), init_state(variables, tx), batch)
        for name, tx in optimizers.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            seconds = run()
            if number >= 2:  # the first compiles, the second fills caches
                times[name].append(seconds)
    ratios = {
        name: statistics.median(x / d for x, d in zip(samples, times["dense"], strict=True))
        for name, samples in times.items()
        if name != "dense"
    }
    return {"dense": statistics.median(times["dense"]), **ratios}


class _Run:
    """A step that continues from its own last state."""

    def __init__(self, step: Function, state: TrainState, batch: Batch) -> None:
        self.step = jax.jit(step, donate_argnums=0)
        self.state = jax.tree.map(jnp.copy, state)
        self.batch = batch

    def __call__(self) -> float:
        """Take a step and return its seconds."""
        watch = Stopwatch()
        self.state, _ = self.step(self.state, self.batch, jax.random.key(0))
        jax.block_until_ready(self.state)
        return watch.seconds


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the ratios go.

    Attributes:
        output: the JSON file.
    """

    output: Path = Path("benchmarks/results/masked_step.json")


def main(config: Config) -> None:
    """Print the ratios and write them down."""
    prepare()
    ratios = masked_step_ratios()
    for name, value in ratios.items():
        print(f"{name}: {value:.4f} s" if name == "dense" else f"{name}: {value:.3f} x dense")
    content = {"network": "resnet20", "batch_size": 128, **ratios, "environment": describe()}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(content, indent=2) + "\n")


COMMAND = Command("benchmarks.masked_step", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
