"""Which score and scope `recipes.sparse` takes by default: ResNet-20 on digits, no fine-tuning.

    python -m benchmarks.sparse_defaults --seeds 0 1

The quickstart's teacher is trained once a seed, its kernels are made sparse by every score and
scope, BatchNorm is re-estimated, and the 360 test images are classified.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from experiments.common import data
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.measure import augmented
from experiments.common.network import untrained
from experiments.common.tuning import Tuning, trained
from jaxcompress import models, parallel, training
from jaxcompress.annotations import Array, Batch, Json
from jaxcompress.files import write_json
from jaxcompress.knowledge.losses import cross_entropy

SCORES = {
    "reconstruct": None,
    "magnitude": jc.sparse.magnitude,
    "gradient_times_weight": jc.sparse.gradient_times_weight,
    "random": jc.sparse.random,
}


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        output: the rows.
        seeds: of the teachers.
        sparsities: of the kernels.
    """

    output: Path = Path("benchmarks/results/sparse_defaults_digits.json")
    seeds: tuple[int, ...] = (0, 1)
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95)


def teacher_of(dataset: data.Dataset, keys: jax.Array) -> tuple[Any, Any, Any]:
    """Train a ResNet-20 as the quickstart does; return its functions and variables."""
    name, config = "resnet20", {"num_classes": 10}
    network, module = untrained(name, config), models.build(name, **config)
    start = models.initialize(module, keys[0], data.image_shape(dataset).shape)
    tuning = Tuning(20, rate=0.1, distillation=0.0, batch_size=128)
    views, mesh = data.DIGITS_VIEWS, parallel.mesh()
    run = trained(network.train_apply, start, dataset, tuning, views=views, key=keys[1], mesh=mesh)
    return network.apply, network.train_apply, jax.device_get(run.state.variables)


def rows_of(seed: int, sparsities: tuple[float, ...]) -> list[dict[str, Json]]:
    """Train a teacher and judge every score and scope at every sparsity."""
    dataset, keys = data.load("digits"), jax.random.split(jax.random.key(seed), 3)
    apply, train_apply, variables = teacher_of(dataset, keys)
    stacked = augmented(dataset, keys[2], count=1437, batch_size=128, settings=data.DIGITS_VIEWS)
    batches = [
        {name: leaf[i] for name, leaf in stacked.items()} for i in range(len(stacked["label"]))
    ]
    run = jax.jit(apply)
    images = data.preprocess(dataset)(dataset.test_images)

    def loss(params: Array, batch: Batch) -> jax.Array:
        logits, _ = train_apply(params, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    def accuracy(params: Array) -> float:
        return float(np.mean(np.asarray(run(params, images)).argmax(-1) == dataset.test_labels))

    rows = [{"seed": seed, "score": "dense", "accuracy": accuracy(variables)}]
    for sparsity, (name, score), scope in itertools.product(
        sparsities, SCORES.items(), get_args(jc.sparse.Scope)
    ):
        small = jc.recipes.sparse(
            apply, variables, batches, sparsity, loss=loss, score=score, scope=scope
        ).variables
        renewed = training.reestimate(
            train_apply, small, jnp.asarray(stacked["image"]), key=keys[2]
        )
        about = {"seed": seed, "sparsity": sparsity, "score": name, "scope": scope}
        rows.append({**about, "accuracy": accuracy(small), "reestimated": accuracy(renewed)})
        print(rows[-1], flush=True)
    return rows


def main(config: Config) -> None:
    """Measure all seeds."""
    prepare()
    rows = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    for seed in [number for number in config.seeds if number not in {row["seed"] for row in rows}]:
        rows += rows_of(seed, config.sparsities)
        write_json(config.output, {"environment": describe(), "rows": rows})


COMMAND = Command("benchmarks.sparse_defaults", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
