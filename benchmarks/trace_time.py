"""How long it takes to read a network, on one core.

    python -m benchmarks.trace_time

Prints, for each network, the equations of its jaxpr, the groups found, the median seconds of five
traces and of `jax.make_jaxpr`, which is part of it; writes `benchmarks/results/trace_time.json`.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from benchmarks.cores import limit_cores
from benchmarks.decoder import decoder, decoder_shapes
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress import models
from jaxcompress.annotations import Batch, Function, Json, PyTree

__all__ = ["COMMAND", "main"]

NETWORKS = {
    "resnet56": (1, 32, 32, 3),
    "resnet110": (1, 32, 32, 3),
    "mobilenet_v2": (1, 224, 224, 3),
    "vit_tiny": (1, 32, 32, 3),
    "vgg16_imagenet": (1, 224, 224, 3),
    "resnet50": (1, 224, 224, 3),
}


def median_seconds(function: Function, repeats: int = 5) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        watch = Stopwatch()
        function()
        times.append(watch.seconds)
    return statistics.median(times)


def jaxpr_of(apply: Function, variables: PyTree, images: Batch) -> Any:
    """Trace through a new function each time: JAX remembers the jaxpr of one it has seen."""
    return jax.make_jaxpr(lambda v, x: apply(v, x))(variables, images)


def cases() -> dict[str, tuple[Function, PyTree, jax.ShapeDtypeStruct]]:
    """Return each network's function, abstract variables and input."""
    made = {}
    for name, shape in NETWORKS.items():
        module = models.build(name)
        key = jax.random.key(0, impl="unsafe_rbg")
        variables = jax.eval_shape(lambda m=module, k=key, s=shape: models.initialize(m, k, s))
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        made[name] = models.evaluation_function(module), variables, images
    tokens = jax.ShapeDtypeStruct((1, 128), jnp.int32)
    return {**made, "decoder of 32 layers": (decoder(), decoder_shapes(), tokens)}


def row(name: str, apply: Function, variables: PyTree, inputs: Batch) -> dict[str, Json]:
    """Measure one network."""
    graph = jc.trace(apply, variables, inputs)
    measured = {
        "network": name,
        "parameters": graph.params,
        "equations": len(jax.make_jaxpr(apply)(variables, inputs).jaxpr.eqns),
        "groups": len(graph.groups),
        "trace_seconds": median_seconds(lambda: jc.trace(apply, variables, inputs)),
        "make_jaxpr_seconds": median_seconds(lambda: jaxpr_of(apply, variables, inputs)),
    }
    print(measured, flush=True)
    return measured


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the times go.

    Attributes:
        output: the JSON file.
    """

    output: Path = Path("benchmarks/results/trace_time.json")


def main(config: Config) -> None:
    """Measure all networks."""
    prepare()
    limit_cores(1)
    rows = [row(name, *case) for name, case in cases().items()]
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=2) + "\n")


COMMAND = Command("benchmarks.trace_time", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
