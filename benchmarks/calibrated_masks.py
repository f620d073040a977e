"""Masks from what kernels are given, beside magnitudes: ResNet-20, public weights, CIFAR-10.

    python -m benchmarks.calibrated_masks --data-dir .

No labels, no fine-tuning. Every method sets the same kernels to zero; covariances are those of
augmented training images in evaluation mode. Rows: method, zeros, accuracy before and after
BatchNorm is re-estimated, processor seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from benchmarks import front_doors
from experiments.common.command import Command
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Array, PyTree

METHODS = ("magnitude", "magnitude, global", "activations", "reconstruct", "reconstruct, global")


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        data_dir: see `benchmarks.front_doors`.
        output: the rows.
        network: see `benchmarks.front_doors`.
        sparsities: fractions of zeros.
        examples: training images that the covariances are of.
        seed: of what is drawn.
        test_images: how many are classified.
        statistics_images: that BatchNorm is re-estimated on.
    """

    data_dir: Path = front_doors.Config.data_dir
    output: Path = Path("benchmarks/results/calibrated_masks_resnet20.json")
    network: str = "resnet20"
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.8)
    examples: int = 1024
    seed: int = 0
    test_images: int = 2000
    statistics_images: int = 4096


def covariances(task: front_doors.Task, graph: jc.Graph, examples: int) -> dict[str, Any]:
    """Return what the kernels are given, of the dense network."""
    forms = {
        path: "channel" if "window" in site.layout else "dense"
        for path, site in graph.sites.items()
    }
    images = [batch["image"] for batch in task.batches(examples, 128, 4)]
    return jc.low_rank.input_covariances(graph, task.apply, task.variables, images, forms)


def pruned(
    method: str,
    task: front_doors.Task,
    graph: jc.Graph,
    seen: Mapping[str, Array],
    sparsity: float,
    pattern: jc.sparse.NofM | None,
) -> PyTree:
    """Return the variables with zeros."""
    variables = task.variables
    if method == "reconstruct":
        return jc.sparse.reconstruct(graph, variables, seen, sparsity, pattern=pattern)[1]
    if method == "activations":
        masks = jc.sparse.activation_masks(graph, variables, seen, sparsity, pattern=pattern)
        return jc.sparse.masked(variables, masks)
    scope: Any = "global" if method.endswith("global") else "uniform"
    protect = [path for path in graph.sites if path not in seen]
    masks = jc.sparse.make_masks(
        variables, sparsity, scope=scope, pattern=pattern, graph=graph, protect=protect
    )
    if method.startswith("reconstruct"):
        zeros = {path: 1 - float(mask.mean()) for path, mask in masks.items()}
        return jc.sparse.reconstruct(graph, variables, seen, zeros)[1]
    return jc.sparse.masked(variables, masks)


def main(config: Config) -> None:
    """Measure every row."""
    prepare()
    task = front_doors.Task(
        front_doors.Config(
            config.data_dir,
            network=config.network,
            seed=config.seed,
            test_images=config.test_images,
            statistics_images=config.statistics_images,
        )
    )
    image = jax.ShapeDtypeStruct(front_doors.SHAPE, jnp.float32)
    graph = jc.trace(task.apply, task.variables, image)
    watch = Stopwatch(time.process_time)
    seen = covariances(task, graph, config.examples)
    rows: list[dict[str, Any]] = [
        {"method": "dense", "accuracy": task.accuracy(task.apply, task.variables)},
        {"method": "covariances", "cpu_seconds": round(watch.seconds, 1)},
    ]
    # The first convolution reads three colours, which no four divide.
    grouped = {path: c for path, c in seen.items() if graph.sites[path].shape[-2] % 4 == 0}
    budgets = [(sparsity, None) for sparsity in config.sparsities]
    for sparsity, pattern in [*budgets, (0.5, jc.sparse.NofM(2, 4))]:
        for method in METHODS:
            if pattern is not None and method.endswith("global"):
                continue
            watch = Stopwatch(time.process_time)
            given = seen if pattern is None else grouped
            small = pruned(method, task, graph, given, sparsity, pattern)
            seconds = round(watch.seconds, 1)
            row = {"method": method, "zeros": sparsity if pattern is None else str(pattern)}
            row |= {"accuracy": task.accuracy(task.apply, small), "cpu_seconds": seconds}
            small = task.renewed(task.train_apply, small)
            rows.append({**row, "reestimated": task.accuracy(task.apply, small)})
            front_doors.write(config, rows)
            print(rows[-1], flush=True)


COMMAND = Command("benchmarks.calibrated_masks", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
