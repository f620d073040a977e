"""How many images a second devices and cores take: estimated by compilers, measured, or bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxcompress as jc
from experiments.common import report
from experiments.common.projection import CLASSES, Pace
from experiments.imagenet.network import abstract_pixels, network_of
from experiments.imagenet.pruning import graph_of
from experiments.imagenet.settings import Config
from jaxcompress import models, parallel, training
from jaxcompress.annotations import Batch, PyTree
from jaxcompress.knowledge import cross_entropy
from jaxcompress.prune import importance

__all__ = ["Device", "decoding_pace", "described", "measured"]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
BATCH = 256
"""Images of the compiled steps, on one chip."""
FORWARD, STEP = "evaluation", "training at half"
PEAKS = {"v5e": (197e12, 819e9), "v6e": (918e12, 1640e9), "H100": (989e12, 3350e9)}
"""Published peaks: operations of bfloat16, and bytes of memory, per second."""


class Device(NamedTuple):
    """A device and its pace.

    Attributes:
        name: of the device.
        pace: images per second.
        basis: where the pace comes from, with its arithmetic.
    """

    name: str
    pace: Pace
    basis: str


def described() -> list[Device]:
    """Return devices that are not here, by `benchmarks/results/tpu_aot.json`, for ResNet-50.

    TPUs take what XLA estimates of the compiled steps, at half of the FLOPs. Devices that nothing
    is compiled for are granted the share of their peaks that the v5e is estimated to reach.
    """
    steps = _steps()
    devices = [
        Device(chip, Pace(*(1e3 * BATCH / row[name] for name in (FORWARD, STEP))), _told(row))
        for chip, row in _milliseconds(steps).items()
    ]
    for chip in PEAKS.keys() - steps.keys() if "v5e" in steps else ():
        pace = Pace(*(_bounded(steps["v5e"][name], chip) for name in (FORWARD, STEP)))
        basis = "the same share of its peaks as estimated on v5e: not measured, and optimistic"
        devices.append(Device(chip, pace, basis))
    return sorted(devices, key=lambda device: device.name, reverse=True)


def _steps() -> dict[str, dict[str, Any]]:
    """Return the compiled steps by chip and name, where both are there."""
    rows = json.loads((RESULTS / "tpu_aot.json").read_text())["rows"]
    by_chip: dict[str, dict[str, Any]] = {}
    for row in rows:
        is_whole = row["network"] == "resnet50_256" and row["chips"] == 1
        if is_whole and row["step"] in (FORWARD, STEP) and "milliseconds" in row:
            by_chip.setdefault(row["topology"].partition(":")[0], {})[row["step"]] = row
    return {chip: steps for chip, steps in by_chip.items() if len(steps) == 2}


def _milliseconds(steps: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        chip: {name: row["milliseconds"] for name, row in rows.items()}
        for chip, rows in steps.items()
    }


def _told(row: dict[str, float]) -> str:
    times = f"{row[FORWARD]:.1f} ms forward and {row[STEP]:.1f} ms a step"
    return f"XLA's estimate, {BATCH} images: {times} at half of the FLOPs"


def _bounded(row: dict[str, Any], chip: str) -> float:
    """Return images per second of a chip that wastes as much as the v5e is estimated to."""
    least = {
        name: max(row["flops"] / operations, row["bytes_accessed"] / bandwidth)
        for name, (operations, bandwidth) in PEAKS.items()
    }
    reached = least["v5e"] / (row["milliseconds"] / 1e3)
    return float(BATCH * min(1.0, reached) / least[chip])


def decoding_pace() -> float:
    """Return the images of ImageNet's size that one core reads and crops in a second, measured."""
    rows = json.loads((RESULTS / "input_pipeline.json").read_text())["rows"]
    (row,) = (r for r in rows if (r["images"], r["reader"]) == ("made up", "training crops"))
    return float(row["images_per_cpu_second"])


def measured(config: Config) -> Device:
    """Time the forward pass and a training step at the budget, on random pixels, here.

    Which channels go hardly changes how long a step takes: they are those of least magnitude.

    Args:
        config: of the network, its size, budget and batch.
    """
    mesh, size = parallel.mesh(), config.batch_size // config.accumulate_steps
    network = network_of(config, CLASSES)
    shape = abstract_pixels(config, size).shape
    module = models.build(network.source[0], **network.source[1])
    network = network._replace(variables=models.initialize(module, jax.random.key(0), shape))
    graph = graph_of(config, network)
    scores = dict(importance.magnitude(graph, network.variables))
    limits: Any = {"multiple_of": config.multiple_of, "protect": config.protect}
    prune = jc.shrink(graph, jc.select(graph, scores, jc.Budget(flops=config.flops), **limits))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch = parallel.shard_batch({"image": pixels, "label": np.zeros(size, np.int32)}, mesh)
    variables = parallel.replicate(network.variables, mesh)
    forward = report.latency_ms(jax.jit(network.apply), variables, batch["image"], repeats=5)
    small = network.after(prune, prune.variables(network.variables))
    step = _step_milliseconds(small.train_apply, small.variables, batch, mesh)
    pace = Pace(1e3 * size / forward / mesh.size, 1e3 * size / step / mesh.size)
    times = f"{forward:.1f} ms forward, {step:.1f} ms a step"
    basis = f"measured, {size} images on {mesh.size}: {times}"
    return Device(jax.devices()[0].device_kind, pace, basis)


def _step_milliseconds(train_apply: Any, variables: PyTree, batch: Batch, mesh: Any) -> float:
    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        logits, state = train_apply(variables, batch["image"], key)
        return cross_entropy(logits, batch["label"]).mean(), (state, {})

    tx = optax.sgd(0.01, momentum=0.9)
    step = training.jit_step(training.train_step(loss, tx), mesh)
    states = [parallel.replicate(training.init_state(variables, tx), mesh)]

    def one() -> Any:
        states[0], metrics = step(states[0], batch, jax.random.key(0))
        return metrics

    return report.latency_ms(one, repeats=5)
