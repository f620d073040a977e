"""Cut the stream of each network by each score, and judge what is left."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
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
from jaxcompress.graph.interpret import Node
from jaxcompress.knowledge.losses import cross_entropy

__all__ = ["main"]


def judged(run: Function, batches: list[Batch]) -> dict[str, float]:
    """Return the mean loss of `run(inputs)`, and the share of labels that are told right."""
    logits = jnp.concatenate([run(inputs) for inputs, _ in batches])
    labels = jnp.concatenate([jnp.asarray(labels) for _, labels in batches])
    right = float((logits.argmax(-1) == labels).mean())
    return {"loss": float(cross_entropy(logits, labels).mean()), "accuracy": right}


def energy(graph: jc.Graph, task: Problem, group: str) -> np.ndarray:
    """Return the mean square of each channel in what kernels are given of a stream."""
    places = {c.path: c.axis for c in graph.groups[group].consumers if c.path is not None}
    width = graph.groups[group].width

    def squares(variables: PyTree, inputs: Array) -> Array:
        given: list[Array] = []

        def look(path: str, node: Node, operands: Sequence[Array], position: int) -> None:
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


class Cuts:
    """What is left of a network's stream, judged at masks: one program for all of them."""

    def __init__(self, graph: jc.Graph, group: str, task: Problem) -> None:
        self.graph, self.group, self.task = graph, group, task
        self.run = jax.jit(jc.gated(graph, task.apply))

    def __call__(self, scores: np.ndarray, share: float) -> dict[str, Json]:
        """Keep the channels of the largest scores, and judge."""
        count = round(share * len(scores))
        keep = np.isin(np.arange(len(scores)), np.argsort(-scores, kind="stable")[:count])
        gates = {self.group: jnp.asarray(keep, jnp.float32)}
        cost = self.graph.cost
        left = float(cost.flops(cost.widths({self.group: keep})))
        run = lambda inputs: self.run(self.task.variables, gates, inputs)  # noqa: E731
        about = {"share": share, "means": self.graph.means, "flops": left}
        return about | judged(run, self.task.test)


def rows_of(task: Problem, config: Config) -> Iterator[dict[str, Json]]:
    """Judge the whole network, the rotated one, and what each score leaves of both."""
    inputs = task.calibration[0][0]
    graphs = [jc.trace(task.apply, task.variables, inputs, means=m) for m in ("kept", "all")]
    (group,) = graphs[0].streams
    run = jax.jit(functools.partial(task.apply, task.variables))
    yield {"score": "none", "share": 1.0, "flops": graphs[0].flops, **judged(run, task.test)}
    watch = Stopwatch(time.process_time)
    batches = [batch for batch, _ in task.calibration]
    rotated = jc.rotate(graphs[0], task.apply, task.variables, batches)
    seconds = round(watch.seconds, 1)
    function = rotated.compression.function(task.apply)
    turned = rotated.compression.variables(task.variables)
    run = jax.jit(functools.partial(function, turned))
    about = {"matrices": len(rotated.matrices), "cpu_seconds": seconds}
    whole = {"share": 1.0, "flops": rotated.graph.flops, **about}
    yield {"score": "rotation", **whole, **judged(run, task.test)}
    ready = task._replace(apply=function, variables=turned)
    cuts = Cuts(rotated.graph, rotated.group, ready)
    for share in config.shares:
        yield {"score": "rotation", **cuts(np.asarray(rotated.scores[rotated.group]), share)}
    every = scored(graphs[0], task, group, config.seed)
    for cuts in [Cuts(graph, group, task) for graph in graphs]:
        for name, scores in every.items():
            for share in config.shares:
                yield {"score": name, **cuts(scores, share)}


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
