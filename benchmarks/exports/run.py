"""Export every network in every form, and run each."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from pathlib import Path

import numpy as np

import jaxcompress as jc
from benchmarks.exports.networks import Small, compressed
from benchmarks.exports.settings import Config
from experiments.common import data
from experiments.common.environment import describe, prepare
from experiments.common.runtimes import RUNTIMES, Ready, missing
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Json
from jaxcompress.artifact import Encoding, export_stablehlo, load, num_bytes, save
from jaxcompress.files import write_json

__all__ = ["main"]

PACKAGES = ("jax2onnx", "onnxruntime", "litert-converter", "ai-edge-litert")


def main(config: Config) -> None:
    """Measure, and write the rows."""
    prepare()
    dataset = data.load("cifar10", config.data_dir / "tensorflow_datasets")
    mean, std = data.IMAGENET
    normalize = data.preprocess(dataclasses.replace(dataset, mean=mean, std=std))
    images = np.asarray(normalize(dataset.test_images[: config.test_images]), np.float32)
    rows = []
    for name in config.rows:
        small = compressed(name, config)
        rows.append(
            {"network": name, **artifacts(small, images), "runs": runs(small, images, config)}
        )
        write(config, rows)


def artifacts(small: Small, images: np.ndarray) -> dict[str, Json]:
    """Return the bytes of artifacts with and without a program, and what int8 changes."""
    program = export_stablehlo(small.function, small.variables, images)
    expected = np.asarray(small.function(small.variables, images))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "small"
        save(folder, small.compression, small.variables)
        bare = num_bytes(folder)
        save(folder, small.compression, small.variables, program=program)
        carrying = num_bytes(folder)
        save(folder, small.compression, small.variables, program=program, encoding=Encoding("int8"))
        function, rounded = load(folder)
        error = relative(np.asarray(function(rounded, images)), expected)
        sizes = {"artifact": bare, "with_program": carrying, "int8": num_bytes(folder)}
    params = int(jc.trace(small.function, small.variables, images[:1]).params)
    return {"params": params, "bytes": sizes, "int8_error": error}


def runs(small: Small, images: np.ndarray, config: Config) -> list[dict[str, Json]]:
    """Run a network everywhere, at every batch size."""
    expected = np.asarray(small.function(small.variables, images))
    rows: list[dict[str, Json]] = []
    for size in config.batch_sizes:
        ready, measured = {}, {}
        for runtime, make in RUNTIMES.items():
            if missing(runtime):
                print(f"{runtime} is left out: {missing(runtime)} are not installed", flush=True)
                continue
            watch = Stopwatch()
            ready[runtime] = make(small.function, small.variables, images[:size])
            entry = {
                "runtime": runtime,
                "batch_size": size,
                "bytes": len(ready[runtime].file or b"") or None,
            }
            measured[runtime] = {**entry, "export_seconds": watch.seconds}
            error = relative(answers(ready[runtime], images, size), expected)
            measured[runtime] |= {"error": error}
        for runtime, times in in_turns(ready, images[:size], config.repeats).items():
            row = {**measured[runtime], "latency_ms": 1e3 * min(times)}
            rows.append(row)
            print(row, flush=True)
    return rows


def answers(ready: Ready, images: np.ndarray, size: int) -> np.ndarray:
    """Return the logits of all whole batches."""
    starts = range(0, len(images) - size + 1, size)
    return np.concatenate([np.asarray(ready.call(images[i : i + size])) for i in starts])


def in_turns(ready: dict[str, Ready], images: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Time calls of all runtimes in turns, so that what else the machine does meets all alike."""
    times: dict[str, list[float]] = {runtime: [] for runtime in ready}
    for _ in range(rounds):
        for runtime, one in ready.items():
            watch = Stopwatch()
            np.asarray(one.call(images))
            times[runtime].append(watch.seconds)
    return times


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest value."""
    difference = np.abs(actual - expected[: len(actual)]).max()
    return float(difference / np.abs(expected).max())


def write(config: Config, rows: list[dict[str, Json]]) -> None:
    """Write what is there so far."""
    settings = dataclasses.asdict(config)
    settings = {name: settings[name] for name in settings if name not in ("data_dir", "output")}
    environment = describe()
    for package in PACKAGES:
        try:
            environment["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            environment["versions"][package] = None
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.output, {"environment": environment, "config": settings, "rows": rows})
