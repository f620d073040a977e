"""How much of each architecture can go, and whether removing it equals masking it.

    python -m benchmarks.generality

Every network of `jaxcompress.models`, abstractly, and every toy of `tests/toys` with its arrays:
the share of parameters and FLOPs that go when every group is halved, the largest error of the law
(removed against masked, relative), seconds to draw shapes and trace. Writes
`benchmarks/results/generality.json`; a test compares it, so that reach never falls.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np

import jaxcompress as jc
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress import models
from jaxcompress.annotations import Array, Json

__all__ = ["COMMAND", "Config", "main", "reach", "toys", "traced"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Where to.

    Attributes:
        output: the JSON file.
    """

    output: Path = Path("benchmarks/results/generality.json")


def halved(graph: jc.Graph) -> dict[str, np.ndarray]:
    """Keep the first half of every group, one channel at least."""
    return {n: np.arange(g.width) < max(g.width // 2, 1) for n, g in graph.groups.items()}


def reach(graph: jc.Graph) -> dict[str, float]:
    """Return the shares of parameters and FLOPs that go when every group is halved."""
    cost, widths = graph.cost, graph.cost.widths(halved(graph))
    return {
        "groups": len(graph.groups),
        "params": 1 - float(cost.params(widths)) / max(graph.params, 1),
        "flops": 1 - float(cost.flops(widths)) / max(graph.flops, 1),
    }


def configurations() -> dict[str, tuple[str, dict[str, Json]]]:
    """Return name and configuration of every registered network; of transformers, scanned too."""
    plain: dict[str, tuple[str, dict[str, Json]]] = {n: (n, {}) for n in models.NETWORKS}
    stacked = [n for n in plain if "scan" in models.NETWORKS[n].module.__annotations__]
    return {**plain, **{f"{name}, scanned": (name, {"scan": True}) for name in stacked}}


def traced(row: str) -> jc.Graph:
    """Trace a registered network, abstractly."""
    name, config = configurations()[row]
    module, inputs = models.build(name, **config), models.NETWORKS[name].inputs
    start = functools.partial(models.initialize, module, shape=inputs)
    variables = jax.eval_shape(start, jax.random.key(0))
    return jc.trace(models.evaluation_function(module), variables, inputs)


def networks() -> dict[str, Json]:
    """Trace every registered network; return rows by name."""
    rows = {}
    for name in sorted(configurations()):
        watch = Stopwatch()
        graph = traced(name)
        rows[name] = {"seconds": watch.seconds, **reach(graph)}
    return rows


def toys() -> dict[str, Json]:
    """Trace every toy, and compare removing with masking; return rows by name."""
    from tests.laws import TOYS, gates_of, graph_of, toy_of

    rows = {}
    for name in TOYS:
        toy, graph = toy_of(name), graph_of(name)
        keep = halved(graph)
        prune = jc.shrink(graph, keep)
        small = jax.jit(prune.function(toy.apply))(prune.variables(toy.variables), *toy.inputs)
        masked = jax.jit(jc.gated(graph, toy.apply))
        expected = masked(toy.variables, gates_of(graph, keep), *toy.inputs)
        pairs = zip(jax.tree.leaves(small), jax.tree.leaves(expected), strict=True)
        rows[name] = {"error": max(_error(*pair) for pair in pairs), **reach(graph)}
    return rows


def _error(left: Array, right: Array) -> float:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return float(np.abs(left - right).max(initial=0) / max(np.abs(right).max(initial=0), 1e-30))


def main(config: Config) -> None:
    """Measure all, print a line each, write the file."""
    prepare()
    result = {"environment": describe(), "networks": networks(), "toys": toys()}
    for kind in ("networks", "toys"):
        for name, row in result[kind].items():
            shares = f"{row['params']:6.1%} of parameters {row['flops']:6.1%} of FLOPs"
            print(f"{kind[:-1]:8} {name:28} {row['groups']:4} groups {shares}")
    config.output.write_text(json.dumps(result, indent=1) + "\n")


COMMAND = Command("benchmarks.generality", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
