"""The measurement: both frameworks in turns, and the table of what they took."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.throughput.settings import Config, cases
from benchmarks.throughput.table import rows, table
from benchmarks.throughput.worker import JAX, TORCH, Worker
from experiments.common.environment import describe
from jaxcompress.annotations import Array, Json

__all__ = ["TOLERANCE", "is_done", "main", "with_case"]

TOLERANCE = 1e-4
VERSIONS = """
import importlib.metadata, json
there = {package.name: package.version for package in importlib.metadata.distributions()}
print(json.dumps({name: there.get(name) for name in ("torch", "triton")}))
"""
"""Told by the interpreter that has PyTorch."""
KINDS = ("rounds", "steps", "seconds", "threads", "compile", "bfloat16")


def main(config: Config) -> dict[str, Json]:
    """Measure, print and write everything."""
    prepare(config.device)
    config = quickened(config)
    threads = config.threads or len(os.sched_getaffinity(0))
    environment = _environment(config, threads)
    output = config.output or _path(environment["device"], threads, config.quick)
    report: dict[str, Json] = {"environment": environment, "cases": []}
    if config.resume and output.exists():
        report["cases"] = json.loads(output.read_text())["cases"]
    for case in cases(config):
        if any(is_done(entry, case, config) for entry in report["cases"]):
            continue
        measured = measure(case, config, threads)
        about = {"case": case, "config": _plain(config), "commit": environment["commit"]}
        report["cases"] = with_case(report["cases"], {**about, **measured})
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{case} done", file=sys.stderr, flush=True)
    Console(width=130).print(table(rows(report["cases"])))
    return report


def is_done(entry: Mapping[str, Any], case: Mapping[str, Json], config: Config) -> bool:
    """Tell whether an entry is of this case, with every variant that is wanted now.

    Example:
        >>> entry = {"case": {"name": "vgg16"}, "config": {"compile": False, "bfloat16": True}}
        >>> [is_done(entry, entry["case"], Config(compile=flag)) for flag in (False, True)]
        [True, False]
    """
    # Files of before `bfloat16` was a setting hold it always.
    known = {"bfloat16": True, **entry["config"]}
    return entry["case"] == case and all(
        known[kind] >= getattr(config, kind) for kind in ("compile", "bfloat16")
    )


def with_case(entries: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> list[Any]:
    """Return the entries with this one in the place of an older one of the same case.

    All variants are of one run, in turns: those that were measured before are not mixed in.

    Example:
        >>> with_case([{"case": 1, "was": 2}, {"case": 3}], {"case": 1})
        [{'case': 1}, {'case': 3}]
    """
    places = [number for number, old in enumerate(entries) if old["case"] == entry["case"]]
    if not places:
        return [*entries, entry]
    return [entry if number in places else old for number, old in enumerate(entries)]


def measure(case: dict[str, Json], config: Config, threads: int) -> dict[str, Json]:
    """Prepare one case in both frameworks, compare their logits, and time all variants in turns."""
    modules = {JAX: ("ours", sys.executable), TORCH: ("pytorch", config.python)}
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            name: Worker(module, python, threads, config.device)
            for name, (module, python) in modules.items()
        }
        try:
            answers = {}
            for name, worker in workers.items():
                kinds = {"compile": config.compile, "bfloat16": config.bfloat16}
                answers[name] = worker.ask({"case": case, "kinds": kinds, "folder": folder})
                _check(name, case, answers[name]["logits_error"])
            timed = _turns(workers, answers, config)
            flops = json.loads(Path(folder, "flops.json").read_text())
        finally:
            for worker in workers.values():
                worker.close()
    return {"flops": flops, "frameworks": answers, "seconds": timed}


def _check(name: str, case: dict[str, Json], error: float) -> None:
    if not error <= TOLERANCE:
        raise AssertionError(
            f"logits must agree to {TOLERANCE} of the largest before anything is timed, but those "
            f"of {name} for {case} are off by {error:.2e}"
        )


def _turns(workers: dict[str, Worker], answers: Array, config: Config) -> dict[str, Json]:
    """Time every variant that runs, the frameworks in turns."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    for _ in range(config.rounds):
        for name, worker in workers.items():
            for variant, first in answers[name]["first"].items():
                if isinstance(first, str):
                    continue
                times = seconds[name].setdefault(variant, [])
                steps = _steps(times, config)
                times += worker.ask({"variant": variant, "steps": steps})["seconds"]
    return seconds


def _steps(seconds: list[float], config: Config) -> int:
    """As many steps as asked for that fit the time of a turn, judged by those before."""
    if not seconds:
        return 1
    return max(1, min(config.steps, int(config.seconds / statistics.median(seconds))))


def prepare(device: str) -> None:
    """Set for the workers, which inherit it, and for JAX here, which is used first after this.

    Unlike the experiments' `prepare` it leaves the compilation cache alone: a first call that read
    a program from there would not be the first call that is reported.
    """
    # Both frameworks hold the GPU at once, so that neither may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[device]


def quickened(config: Config) -> Config:
    """Return the settings, fewer where they are to be quick."""
    if not config.quick:
        return config
    return dataclasses.replace(
        config, networks=("resnet20",), tasks=("train", "eval"), latency=(), rounds=3, steps=3,
        compile=False,
    )  # fmt: skip


def _environment(config: Config, threads: int) -> dict[str, Json]:
    asked = [config.python, "-c", VERSIONS]
    versions = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    description = describe()
    description["versions"] |= versions
    return {**description, "threads": threads, "time": time.strftime("%Y-%m-%d")}


def _path(device: str, threads: int, quick: bool) -> Path:
    name = re.sub(r"[^a-z0-9]+", "_", device.split(", as")[0].lower()).strip("_")
    ending = "_quick" if quick else ""
    return Path(f"benchmarks/results/throughput_{name}_{threads}_threads{ending}.json")


def _plain(config: Config) -> dict[str, Json]:
    """Return the settings that change how a case is measured."""
    fields = dataclasses.asdict(config)
    return {name: fields[name] for name in KINDS}
