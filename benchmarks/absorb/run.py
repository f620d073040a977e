"""The measurement: every network, score and budget that is missing from the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.absorb.networks import Images, Task, load_task
from experiments.common.environment import describe, prepare
from jaxcompress import training
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.files import write_json
from jaxcompress.graph import Graph
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.prune import absorb
from jaxcompress.recipes.examples import draw, gather
from jaxcompress.recipes.importances import Fisher, Magnitude
from jaxcompress.recipes.problem import Problem
from jaxcompress.recipes.pruning import groups_of

__all__ = ["Config", "main"]


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        data_dir: folder with `weights`, `tensorflow_datasets`, `imagenet_sample`; that of
            JAXCOMPRESS_SHARED.
        output: the rows.
        networks: "resnet20", "resnet56" and "efficientnet_lite0".
        scores: of channels.
        flops: what is left.
        statistics_images: of CIFAR-10.
        test_images: of CIFAR-10.
        which: the first of them, or the last: on some of the first 2,000 a choice was made.
        seed: of what is drawn.
    """

    data_dir: Path = Path(os.environ.get("JAXCOMPRESS_SHARED", "."))
    output: Path = Path("benchmarks/results/absorb.json")
    networks: tuple[Literal["resnet20", "resnet56", "efficientnet_lite0"], ...] = (
        "resnet20",
        "resnet56",
        "efficientnet_lite0",
    )
    scores: tuple[Literal["magnitude", "fisher"], ...] = ("magnitude", "fisher")
    flops: tuple[float, ...] = (0.7, 0.5, 0.3)
    statistics_images: int = 1024
    test_images: int = 2000
    which: Literal["first", "last"] = "first"
    seed: int = 0


def main(config: Config) -> None:
    """Measure every row; what is there already stays."""
    prepare()
    rows = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    for network in config.networks:
        done = {(row["score"], row["flops"]) for row in rows if row["network"] == network}
        wanted = [(score, flops) for score in config.scores for flops in config.flops]
        if not set(wanted) <= done:
            for row in _rows(config, network, [one for one in wanted if one not in done]):
                rows.append({"network": network, **row})
                print(rows[-1], flush=True)
                _write(config, rows)


def _rows(
    config: Config, network: str, wanted: list[tuple[str, float]]
) -> Iterator[dict[str, Any]]:
    first, count = config.which == "first", config.test_images
    images = config.statistics_images, slice(count) if first else slice(-count, None)
    task = load_task(network, config.data_dir, *images, config.seed)
    key, batches = jax.random.key(config.seed), _batches(task, task.statistics)
    graph = jc.trace(task.apply, task.variables, batches[0]["image"][:1])
    dense = _accuracy(task, jax.jit(fast_convolutions(task.apply)), task.variables)
    scored: dict[str, Any] = {}
    for score, flops in wanted:
        if score not in scored:
            scored[score] = _scores(task, graph, batches, score, key)
        keep = jc.select(graph, scored[score], jc.Budget(flops=flops))
        yield {"score": score, "flops": flops, "dense": dense, **_row(task, graph, keep, key)}


def _batches(task: Task, images: Images) -> list[dict[str, Any]]:
    size = task.batch_size
    return [
        {"image": task.prepare(images.images[i : i + size]), "label": images.labels[i : i + size]}
        for i in range(0, len(images.labels), size)
    ]


def _scores(
    task: Task, graph: Graph, batches: list[dict[str, Any]], score: str, key: jax.Array
) -> Mapping[str, Array]:
    """Score channels as `recipes.prune` does, groups inside blocks only."""

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        logits, _ = task.train_apply(variables, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    gathered = gather(iter(batches), len(task.statistics.labels))
    groups = groups_of(graph, "internal")
    problem = Problem(graph, task.variables, groups, lambda *how: draw(gathered, *how), loss, None)
    importance = Fisher() if score == "fisher" else Magnitude()
    return importance(problem, jc.Budget(flops=0.5), key)


def _row(task: Task, graph: Graph, keep: Mapping[str, Array], key: jax.Array) -> dict[str, Any]:
    images = [batch["image"] for batch in _batches(task, task.statistics)]
    compression = jc.shrink(graph, keep)
    run = jax.jit(fast_convolutions(compression.function(task.apply)))
    train_apply = compression.function(task.train_apply)
    result = absorb(graph, task.apply, task.variables, images, keep)
    row: dict[str, Any] = {}
    for name, variables in (("plain", task.variables), ("absorb", result.variables)):
        small = compression.variables(variables)
        renewed = training.reestimate(train_apply, small, jnp.stack(images), key=key)
        row[name] = _accuracy(task, run, small)
        row["reestimate" if name == "plain" else "both"] = _accuracy(task, run, renewed)
    return {**row, "leaves": len(result.leaves), "left_out": result.left_out}


def _accuracy(task: Task, run: Function, variables: PyTree) -> float:
    right = sum(
        int((np.asarray(run(variables, batch["image"])).argmax(-1) == batch["label"]).sum())
        for batch in _batches(task, task.test)
    )
    return right / len(task.test.labels)


def _write(config: Config, rows: list[dict[str, Any]]) -> None:
    shown = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
    write_json(config.output, {"config": shown, "environment": describe(), "rows": rows})
