"""How long gates have to learn: accuracy and processor seconds by steps and examples of each.

    python -m benchmarks.gate_steps --data-dir .

`recipes.prune` of public weights to half of the FLOPs, kernels compensated, BatchNorm re-estimated,
no fine-tuning. Ways are compared on the last `choice_images` training images, of which nothing is
learned; the test images only report. Seconds are the process's: of scoring alone, and with all
that compiling takes. What is there already is not measured again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jaxcompress as jc
from benchmarks import front_doors
from experiments.common.command import Command
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch
from jaxcompress.recipes import Fisher, Learned

__all__ = ["COMMAND", "Config", "main"]


WAYS = MappingProxyType(
    {
        "120 steps of 128": Learned(Fisher(32, 32), 120, 128),
        "60 steps of 128": Learned(Fisher(32, 32), 60, 128),
        "30 steps of 128": Learned(Fisher(32, 32), 30, 128),
        "60 steps of 64": Learned(Fisher(32, 32), 60, 64),
    }
)


@dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        data_dir: see `benchmarks.front_doors`.
        network: of the public weights.
        output: the rows.
        seeds: of what is drawn.
        choice_images: training images that ways are compared on.
        test_images: how many are classified.
    """

    data_dir: Path = front_doors.Config.data_dir
    network: str = "resnet56"
    output: Path = Path("benchmarks/results/gate_steps_resnet56.json")
    seeds: tuple[int, ...] = (0, 1, 2)
    choice_images: int = 5000
    test_images: int = 10_000


def main(config: Config) -> None:
    """Measure every way with every seed, all ways with one seed before the next."""
    prepare()
    rows = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    for seed in config.seeds:
        task, held = _task(config, seed)
        for way in WAYS:
            if any((row["way"], row["seed"]) == (way, seed) for row in rows):
                continue
            rows.append({"way": way, "seed": seed, **_row(config, task, held, way)})
            print(rows[-1], flush=True)
            front_doors.write(config, rows)


def _task(config: Config, seed: int) -> tuple[front_doors.Task, Any]:
    """Return the network with all training images but the last, and these."""
    settings = front_doors.Config(
        config.data_dir, network=config.network, seed=seed, test_images=config.test_images
    )
    task, last = front_doors.Task(settings), config.choice_images
    whole = task.dataset
    task.dataset = dataclasses.replace(
        whole, train_images=whole.train_images[:-last], train_labels=whole.train_labels[:-last]
    )
    return task, (whole.train_images[-last:], whole.train_labels[-last:])


def _row(config: Config, task: front_doors.Task, held: Any, way: str) -> dict[str, Any]:
    watch, batches = Stopwatch(time.process_time), task.batches(16_384, 256, 0)
    compression = jc.recipes.prune(
        task.apply,
        task.variables,
        batches,
        jc.Budget(flops=0.5),
        key=task.key,
        loss=task.loss,
        train_apply=task.train_apply,
        importance=WAYS[way],
    )
    seconds = watch.seconds
    whole = jc.recipes.compensate(task.apply, task.variables, batches, compression)
    small = compression.variables(whole)
    small = task.renewed(compression.function(task.train_apply), small)
    apply = compression.function(task.apply)
    return {
        "choice_accuracy": task.share_right(apply, small, *held),
        "accuracy": task.accuracy(apply, small),
        "cpu_seconds": round(seconds, 1),
    }


COMMAND = Command("benchmarks.gate_steps", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
