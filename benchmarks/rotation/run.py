"""Cut the stream of each network by each score, and judge what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.means_kept.scores import scales
from benchmarks.rotation.problems import Problem, problem
from benchmarks.rotation.settings import Config
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.compression.observing import observe
from jaxcompress.files import write_json
from jaxcompress.knowledge.losses import cross_entropy

__all__ = ["main"]


def judged(apply: Function, variables: PyTree, batches: list[Batch]) -> dict[str, float]:
    """Return the mean loss, and the share of labels that are told right."""
    run = jax.jit(apply)
    logits = jnp.concatenate([run(variables, inputs) for inputs, _ in batches])
    labels = jnp.concatenate([jnp.asarray(labels) for _, labels in batches])
    right = float((logits.argmax(-1) == labels).mean())
    return {"loss": float(cross_entropy(logits, labels).mean()), "accuracy": right}


def energy(graph: jc.Graph, task: Problem, group: str) -> np.ndarray:
    """Return the mean square of each channel in what kernels are given of a stream."""
    places = {c.path: c.axis for c in graph.groups[group].consumers if c.path is not None}
    width = graph.groups[group].width

    def squares(variables: PyTree, inputs: Array) -> Array:
        given: list[Array] = []

        def look(path: str, node: object, operands: list[Array], position: int) -> None:
            rows = operands[1 - position]
            given.append(jnp.square(rows).reshape(-1, width).mean(0))

        observe(task.apply, variables, inputs, places, look)
        return sum(each / each.sum() for each in given)

    run = jax.jit(squares)
    return np.sum([run(task.variables, inputs) for inputs, _ in task.calibration], axis=0)


def scored(graph: jc.Graph, task: Problem, group: str, seed: int) -> Mapping[str, np.ndarray]:
    """Return a stream's scores, by their name."""

    def loss(variables: PyTree, batch: Batch) -> Array:
        return cross_entropy(task.apply(variables, batch[0]), batch[1]).mean()

    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *task.calibration)
    every = {
        "fisher": jc.importance.fisher(
            graph, loss, task.variables, stacked, key=jax.random.key(seed), groups=[group]
        ),
        "magnitude": jc.importance.magnitude(graph, task.variables, coupled=True),
        "scales": scales(graph, task.variables),
        "random": jc.importance.random(graph, jax.random.key(seed)),
    }
    arrays = {name: np.asarray(scores[group]) for name, scores in every.items()}
    return {**arrays, "energy": energy(graph, task, group)}


def _cut(
    graph: jc.Graph, group: str, scores: np.ndarray, task: Problem, share: float
) -> dict[str, Json]:
    """Keep the channels of the largest scores, and judge."""
    count = round(share * len(scores))
    keep = np.isin(np.arange(len(scores)), np.argsort(-scores, kind="stable")[:count])
    prune = jc.shrink(graph, {group: keep})
    flops = graph.cost.flops(graph.cost.widths({group: keep})) / graph.flops
    small = prune.variables(task.variables)
    about = {"share": share, "means": graph.means, "flops_left": float(flops)}
    return about | judged(prune.function(task.apply), small, task.test)


def rows_of(task: Problem, config: Config) -> Iterator[dict[str, Json]]:
    """Judge the whole network, the rotated one, and what each score leaves of both."""
    yield {"score": "none", "share": 1.0, **judged(task.apply, task.variables, task.test)}
    inputs = task.calibration[0][0]
    graphs = [jc.trace(task.apply, task.variables, inputs, means=m) for m in ("kept", "all")]
    (group,) = graphs[0].streams
    watch = Stopwatch(time.process_time)
    batches = [batch for batch, _ in task.calibration]
    rotated = jc.rotate(graphs[0], task.apply, task.variables, batches)
    seconds = round(watch.seconds, 1)
    function, turned = (
        rotated.compression.function(task.apply),
        rotated.compression.variables(task.variables),
    )
    ready = task._replace(apply=function, variables=turned)
    matrices = {"matrices": len(rotated.matrices), "cpu_seconds": seconds}
    whole = {"flops_left": rotated.graph.flops / graphs[0].flops, **matrices}
    yield {"score": "rotation", "share": 1.0, **whole, **judged(function, turned, task.test)}
    shares = np.asarray(rotated.scores[rotated.group])
    for share in config.shares:
        row = _cut(rotated.graph, rotated.group, shares, ready, share)
        flops = row["flops_left"] * whole["flops_left"]
        yield {"score": "rotation", **row, "flops_left": flops}
    for name, scores in scored(graphs[0], task, group, config.seed).items():
        for graph in graphs:
            for share in config.shares:
                yield {"score": name, **_cut(graph, group, scores, task, share)}


def main(config: Config) -> None:
    """Measure all, print a line each, write the file."""
    prepare()
    rows = []
    for name in config.networks:
        for row in rows_of(problem(name, config), config):
            rows.append({"network": name, **row})
            print(rows[-1], flush=True)
    shown = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
    write_json(config.output, {"config": shown, "environment": describe(), "rows": rows})
