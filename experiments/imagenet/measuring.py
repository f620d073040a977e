"""Measure one network over streamed test images, as a row of the report."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import jaxcompress as jc
from experiments.common import report
from experiments.common.measure import count_nonzero
from experiments.common.network import Network
from experiments.common.timing import Stopwatch
from experiments.imagenet.network import abstract_pixels
from experiments.imagenet.reading import Data
from jaxcompress import parallel, training
from jaxcompress.annotations import Json
from jaxcompress.backend import compiled

__all__ = ["classified", "evaluated", "row_of"]

BATCH, LATENCY_BATCH = 256, 8


def evaluated(data: Data, network: Network) -> dict[str, Json]:
    """Return what a network is worth, and what it costs.

    Args:
        data: of the images.
        network: with its variables.
    """
    return {**classified(data, network), **counts(data, network)}


def classified(data: Data, network: Network) -> dict[str, Json]:
    """Classify the test images; return accuracy, loss and pace, reading and compiling included.

    Args:
        data: of the images.
        network: with its variables.
    """
    mesh = parallel.mesh()
    size = -(-min(BATCH, len(data.test)) // mesh.size) * mesh.size
    step = compiled(training.eval_step(network.apply))
    variables = parallel.replicate(network.variables, mesh)
    sums: dict[str, float] = {}
    watch = Stopwatch()
    for batch in data.tested(size):
        taken = {name: batch[name] for name in ("image", "label", "mask")}
        counted = jax.device_get(step(variables, parallel.shard_batch(taken, mesh)))
        sums = {name: sums.get(name, 0) + value.item() for name, value in counted.items()}
    return {
        "accuracy": sums["correct"] / sums["count"],
        "loss": sums["loss"] / sums["count"],
        "count": int(sums["count"]),
        "images_per_second": sums["count"] / watch.seconds,
    }


def counts(data: Data, network: Network) -> dict[str, Json]:
    """Return what a network costs: parameters, FLOPs, and the time of one call here."""
    graph = jc.trace(network.apply, network.variables, abstract_pixels(data.config))
    pixels = np.zeros(abstract_pixels(data.config, LATENCY_BATCH).shape, np.uint8)
    variables = parallel.on_one_device(network.variables)
    run: Any = compiled(network.apply)
    return {
        "num_params": int(graph.params),
        "num_nonzero": count_nonzero(network.variables),
        "flops": float(graph.flops),
        "latency_ms": report.latency_ms(run, variables, pixels, repeats=5),
        "latency_batch": LATENCY_BATCH,
    }


def row_of(name: str, facts: dict[str, Any], size: int | None, seconds: float) -> report.Row:
    """Return the row of a network.

    Args:
        name: of the row.
        facts: what `evaluated` returned.
        size: bytes of its artifact.
        seconds: what it took to make it.
    """
    fields = ("accuracy", "num_params", "num_nonzero", "flops", "latency_ms")
    others = ("loss", "count", "images_per_second", "latency_batch")
    return report.Row(
        name,
        **{field: facts[field] for field in fields},
        bytes=size,
        seconds=seconds,
        extra={other: facts[other] for other in others},
    )
