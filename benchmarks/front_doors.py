"""What the front doors reach with their defaults: ResNet-20 with public weights, CIFAR-10.

    python -m benchmarks.front_doors --data-dir .

No fine-tuning: after each recipe BatchNorm is re-estimated on augmented training images, and test
images are classified. Rows: the recipe, what is left of the FLOPs, accuracy, processor seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from experiments.common import data
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.measure import augmented
from experiments.common.timing import Stopwatch
from jaxcompress import models, training
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights
from jaxcompress.backend import fast_convolutions
from jaxcompress.files import write_json
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.losses import cross_entropy

SHAPE = (1, 32, 32, 3)


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        data_dir: folder with `weights` and `tensorflow_datasets`; that of JAXCOMPRESS_SHARED.
        output: the rows.
        network: of the public weights.
        rows: which of "prune", "prune without labels", both without `compensate`, "low_rank",
            "sparse".
        flops: what `prune` and `low_rank` leave.
        sparsity: of `sparse`.
        seed: of what is drawn.
        test_images: how many are classified.
        statistics_images: that BatchNorm is re-estimated on.
    """

    data_dir: Path = Path(os.environ.get("JAXCOMPRESS_SHARED", "."))
    output: Path = Path("benchmarks/results/front_doors_resnet20.json")
    network: str = "resnet20"
    rows: tuple[str, ...] = (
        "prune",
        "prune without labels",
        "prune, not compensated",
        "prune without labels, not compensated",
        "low_rank",
        "sparse",
    )
    flops: float = 0.5
    sparsity: float = 0.8
    seed: int = 0
    test_images: int = 10_000
    statistics_images: int = 4096


class Task:
    """The network, its images, and how a result is judged."""

    def __init__(self, config: Config) -> None:
        self.config, self.key = config, jax.random.key(config.seed)
        module = models.build(config.network)
        self.apply = models.evaluation_function(module)
        self.train_apply = models.training_function(module)
        like = jax.eval_shape(lambda key: models.initialize(module, key, SHAPE), self.key)
        file = config.data_dir / "weights" / f"{config.network}_cifar10.safetensors"
        self.variables = load_torch_weights(file, like, akamaster_resnet_name)
        dataset = data.load("cifar10", config.data_dir / "tensorflow_datasets")
        mean, std = data.IMAGENET
        self.dataset = replace(dataset, mean=mean, std=std)

    def batches(self, count: int, size: int, number: int) -> list[Array]:
        """Draw augmented training batches, as anyone's loader would."""
        key = jax.random.fold_in(self.key, number)
        stacked = augmented(self.dataset, key, count=count, batch_size=size, settings=Views())
        return [
            {name: leaf[i] for name, leaf in stacked.items()} for i in range(len(stacked["label"]))
        ]

    def loss(self, variables: PyTree, batch: Batch) -> jax.Array:
        """Cross-entropy in training mode."""
        logits, _ = self.train_apply(variables, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    def renewed(self, train_apply: Function, variables: PyTree) -> Any:
        """Re-estimate BatchNorm."""
        drawn = self.batches(self.config.statistics_images, 128, 1)
        images = jnp.stack([batch["image"] for batch in drawn])
        return training.reestimate(train_apply, variables, images, key=self.key)

    def accuracy(self, apply: Function, variables: PyTree) -> float:
        """Classify the test images."""
        count = self.config.test_images
        images, labels = self.dataset.test_images[:count], self.dataset.test_labels[:count]
        return self.share_right(apply, variables, images, labels)

    def share_right(
        self, apply: Function, variables: PyTree, images: np.ndarray, labels: np.ndarray
    ) -> float:
        """Classify images, pixels, and return the share whose labels are right."""
        run, normalize, right = jax.jit(fast_convolutions(apply)), data.preprocess(self.dataset), 0
        for i in range(0, len(labels), 250):
            logits = run(variables, normalize(images[i : i + 250]))
            right += int((np.asarray(logits).argmax(-1) == labels[i : i + 250]).sum())
        return right / len(labels)


def prune(task: Task, loss: Any, compensated: bool = True) -> tuple[jc.Compression, PyTree]:
    """Remove channels; kernels make up for those they no longer see."""
    batches = task.batches(16_384, 256, 0)
    compression = jc.recipes.prune(
        task.apply,
        task.variables,
        batches,
        jc.Budget(flops=task.config.flops),
        key=task.key,
        loss=loss,
        train_apply=task.train_apply,
    )
    whole = task.variables
    if compensated:
        whole = jc.recipes.compensate(task.apply, whole, batches, compression)
    return compression, compression.variables(whole)


def low_rank(task: Task) -> tuple[jc.Compression, PyTree]:
    """Factorize kernels."""
    result = jc.recipes.low_rank(
        task.apply,
        task.variables,
        task.batches(2048, 128, 2),
        jc.Budget(flops=task.config.flops),
        key=task.key,
        train_apply=task.train_apply,
    )
    return result.compression, result.variables


def sparse(task: Task) -> tuple[jc.Compression, PyTree]:
    """Set weights to zero."""
    batches, sparsity = task.batches(1024, 128, 3), task.config.sparsity
    result = jc.recipes.sparse(task.apply, task.variables, batches, sparsity)
    return result.compression, result.variables


ROWS: dict[str, Callable[[Task], tuple[jc.Compression, Any]]] = {
    "prune": lambda task: prune(task, task.loss),
    "prune without labels": lambda task: prune(task, None),
    "prune, not compensated": lambda task: prune(task, task.loss, compensated=False),
    "prune without labels, not compensated": lambda task: prune(task, None, compensated=False),
    "low_rank": low_rank,
    "sparse": sparse,
}


def main(config: Config) -> None:
    """Measure every row; what is there already stays."""
    prepare()
    task = Task(config)
    rows = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    if not rows:
        rows.append({"recipe": "dense", "accuracy": task.accuracy(task.apply, task.variables)})
    for name in [recipe for recipe in config.rows if recipe not in {row["recipe"] for row in rows}]:
        watch = Stopwatch(time.process_time)
        compression, small = ROWS[name](task)
        seconds = watch.seconds
        apply = compression.function(task.apply)
        small = task.renewed(compression.function(task.train_apply), small)
        image = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
        flops = jc.trace(apply, small, image).flops
        dense = jc.trace(task.apply, task.variables, image).flops
        nonzero = sum(int(np.count_nonzero(leaf)) for leaf in jax.tree.leaves(small["params"]))
        row = {"recipe": name, "accuracy": task.accuracy(apply, small), "flops": flops / dense}
        rows.append({**row, "nonzero": nonzero, "cpu_seconds": round(seconds, 1)})
        print(rows[-1], flush=True)
        write(config, rows)


def write(config: Any, rows: list[dict[str, Any]]) -> None:
    """Write what was measured, and on what."""
    shown = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
    write_json(config.output, {"config": shown, "environment": describe(), "rows": rows})


COMMAND = Command("benchmarks.front_doors", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
