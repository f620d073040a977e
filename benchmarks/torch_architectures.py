"""How far public PyTorch architectures can be compressed, and whether removing equals masking.

    python -m benchmarks.torch_architectures

Architectures of `transformers` with small sizes and random weights, seeded, as JAX functions by
`adapters.from_torch`: how far the outputs are from PyTorch's, CPU seconds to trace, the share of
parameters that go when every group is halved, the largest error of the law (removed against
masked), how far masking moves the outputs, and whether `adapters.to_torch` finds that the smaller
arrays run in the module as it is. Of one that cannot be adapted, the error's words. Errors are
relative to the largest output. Needs the extra `torch`, and `transformers`; writes
`benchmarks/results/torch_architectures.json`.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.generality import reach
from benchmarks.torch_networks import NETWORKS, build, example
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress.adapters import from_torch, to_torch
from jaxcompress.annotations import Array, Function, Json, PyTree

__all__ = ["COMMAND", "Config", "main", "row"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Which architectures, and where to.

    Attributes:
        names: of the architectures; all by default.
        output: the JSON file.
    """

    names: tuple[str, ...] = ()
    output: Path = Path("benchmarks/results/torch_architectures.json")


def outputs_of(result: Json) -> Array:
    """Return what a model predicts."""
    return result["logits"]


def error(left: Array, right: Array) -> float:
    """Return the largest difference, relative to the largest entry."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return float(np.abs(left - right).max() / max(np.abs(right).max(), 1e-30))


def expected(module: Any, inputs: Sequence[Array], keywords: Json) -> Array:
    """Run a module in PyTorch."""
    import torch

    def tensors(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: torch.from_numpy(x) if hasattr(x, "dtype") else x, tree)

    with torch.no_grad():
        return outputs_of(module(*tensors(inputs), **tensors(keywords)))


def measured(name: str) -> Json:
    """Adapt and trace one architecture, and halve every group of it at random."""
    module, (inputs, keywords) = build(name), example(name)
    whole, variables = from_torch(module)

    def apply(variables: PyTree, *inputs: Array) -> Array:
        return outputs_of(whole(variables, *inputs, **keywords))

    watch = Stopwatch(time.process_time)
    graph = jc.trace(apply, variables, *inputs)
    seconds = watch.seconds
    outputs = np.asarray(jax.jit(apply)(variables, *inputs))
    prune, masked = halved_at_random(graph, apply, variables, inputs)
    small = prune.variables(variables)
    removed = np.asarray(jax.jit(prune.function(apply))(small, *inputs))
    if not (np.isfinite(outputs).all() and np.isfinite(removed).all()):
        raise FloatingPointError("outputs are not finite")
    return {
        "parameters": graph.params,
        "outputs": error(outputs, expected(module, inputs, keywords)),
        "trace_cpu_seconds": seconds,
        **{kind: reach(graph)[kind] for kind in ("groups", "params")},
        "law": error(removed, masked),
        "moved": error(masked, outputs),
        "refused": refusal(module, prune.function(whole), small, inputs, keywords),
    }


def halved_at_random(
    graph: jc.Graph, apply: Function, variables: PyTree, inputs: Sequence[Array]
) -> tuple[jc.Compression, Array]:
    """Return a removal of half of every group, and the outputs with the same half masked."""
    generator = np.random.default_rng(0)
    keep = {
        name: generator.permutation(group.width) < max(group.width // 2, 1)
        for name, group in graph.groups.items()
    }
    gates = {name: jnp.asarray(kept, jnp.float32) for name, kept in keep.items()}
    masked = jax.jit(jc.gated(graph, apply))(variables, gates, *inputs)
    return jc.shrink(graph, keep), np.asarray(masked)


def refusal(
    module: Any, function: Function, small: PyTree, inputs: Sequence[Array], keywords: Json
) -> str | None:
    """Say why the smaller arrays do not fit a copy of the module; None where they do."""
    try:
        to_torch(module, function, small, *inputs, **keywords)
    except ValueError as problem:
        return str(problem)
    return None


def row(name: str) -> Json:
    """Measure one architecture, or say why it cannot be adapted."""
    try:
        return {"name": name, **measured(name)}
    except Exception as problem:  # the next architecture is measured all the same
        return {"name": name, "error": f"{type(problem).__name__}: {problem}".splitlines()[0]}


def main(config: Config) -> None:
    """Measure all, print a line each, write the file."""
    prepare()
    warnings.simplefilter("ignore")
    rows = []
    for name in config.names or NETWORKS:
        rows.append(row(name))
        print(rows[-1], flush=True)
    environment: Json = describe()
    for package in ("torch", "torchax", "transformers"):
        environment["versions"][package] = metadata.version(package)
    config.output.write_text(
        json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n"
    )


COMMAND = Command("benchmarks.torch_architectures", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
