"""64 candidate ResNets on 256 images: one program beside a jitted loop, and the shared prefix.

    python -m benchmarks.candidates

Three ways to get the losses of K candidate gate trees: a host loop over one jitted loss; one
program (`candidate_losses`); and, where candidates differ in the last stage only, one program that
computes what comes before once. Prints seconds and writes `benchmarks/results/candidates.json`.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress import models
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.prune.candidates import candidate_losses, chunk_size

__all__ = ["COMMAND", "Config", "main"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
        network: its name.
        candidates: K.
        batch_size: images of the batch.
        keep: probability of every channel.
        stage: candidates of the prefix-sharing rows differ in groups from this stage on.
        repeats: of each timing; the median counts.
        output: the JSON file.
    """

    network: str = "resnet20"
    candidates: int = 64
    batch_size: int = 256
    keep: float = 0.6
    stage: int = 3
    repeats: int = 3
    output: Path = Path("benchmarks/results/candidates.json")


def main(config: Config) -> None:
    """Time all ways, check that they agree, and write the file."""
    prepare()
    variables, graph, loss, batch = _network(config)
    every, late = _candidates(config, graph)
    gated = jax.jit(jc.gated(graph, loss))
    traces: list[int] = []

    def program(gates: dict[str, jax.Array], batch: Batch) -> jax.Array:
        traces.append(1)
        return candidate_losses(graph, loss, variables, gates, batch)

    one_program, one_shared = jax.jit(program), jax.jit(program)

    def loop(gates: dict[str, jax.Array]) -> jax.Array:
        single = lambda i: {n: g[i] if g.ndim == 2 else g for n, g in gates.items()}  # noqa: E731
        return jnp.stack([gated(variables, single(i), batch) for i in range(config.candidates)])

    ways = {
        "loop": lambda: loop(every),
        "one program": lambda: one_program(every, batch),
        "loop, late groups differ": lambda: loop(late),
        "one program, late groups differ": lambda: one_shared(late, batch),
    }
    measured = {name: _time(way, config.repeats) for name, way in ways.items()}
    losses = {name: values for name, (_, values) in measured.items()}
    for first, second in (tuple(ways)[:2], tuple(ways)[2:]):
        np.testing.assert_allclose(losses[first], losses[second], rtol=1e-4)
    seconds = {name: elapsed for name, (elapsed, _) in measured.items()}
    content = {
        "environment": describe(),
        "config": dataclasses.asdict(config) | {"output": str(config.output)},
        "together": chunk_size(loss, variables, batch),
        "traces": len(traces),
        "seconds": seconds,
        "loop / one program": seconds["loop"] / seconds["one program"],
        "loop / one program, late groups differ": seconds["loop, late groups differ"]
        / seconds["one program, late groups differ"],
    }
    print(json.dumps(content, indent=1))
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(content, indent=1) + "\n")


def _network(config: Config) -> tuple[Any, jc.Graph, Callable[[PyTree, Batch], jax.Array], Any]:
    module, shape = models.build(config.network), (1, 32, 32, 3)
    variables = models.initialize(module, jax.random.key(0), shape)
    train = models.training_function(module)
    graph = jc.trace(models.evaluation_function(module), variables, jnp.zeros(shape))

    def loss(params: Array, batch: Batch) -> jax.Array:
        logits, _ = train(params, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    keys = jax.random.split(jax.random.key(1))
    images = jax.random.normal(keys[0], (config.batch_size, *shape[1:]))
    labels = jax.random.randint(keys[1], (config.batch_size,), 0, 10)
    return variables, graph, loss, {"image": images, "label": labels}


def _candidates(config: Config, graph: jc.Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return random masks of all internal groups, and those that share all before a stage."""
    every: dict[str, Array] = {}
    late: dict[str, Array] = {}
    for number, name in enumerate(jc.graph.internal_groups(graph)):
        shape = (config.candidates, graph.groups[name].width)
        key = jax.random.fold_in(jax.random.key(2), number)
        every[name] = jax.random.bernoulli(key, config.keep, shape).astype(jnp.float32)
        differs = f"/stage{config.stage}_" in name
        late[name] = every[name] if differs else every[name][0]
    return every, late


def _time(way: Callable[[], jax.Array], repeats: int) -> tuple[float, np.ndarray]:
    """Return the median seconds of a call after the first, and its result."""
    values, seconds = np.asarray(way()), []
    for _ in range(repeats):
        watch = Stopwatch()
        values = np.asarray(way())
        seconds.append(watch.seconds)
    return statistics.median(seconds), values


COMMAND = Command("benchmarks.candidates", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
