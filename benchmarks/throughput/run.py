"""The measurement: both frameworks in turns, and the table of what they took."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.throughput.worker import Worker
from experiments.common.environment import describe

__all__ = ["Config", "cases", "main", "rows", "table"]

TOLERANCE = 1e-4
JAX, TORCH = "jaxcompress", "PyTorch"
TASKS = ("train", "eval", "stored", "live")
LATENCY_BATCHES = (1, 32, 256)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        networks: resnet20, resnet56, vgg16 (32x32), resnet50 (224x224).
        tasks: train, eval, stored (fine-tuning with stored logits), live (with a teacher running).
        latency: of evaluation at these batch sizes too, dense and half.
        batch: images per step; ResNet-50 takes `large_batch`.
        large_batch: images per step of ResNet-50.
        rounds: how often the frameworks take turns.
        steps: timed steps of each variant per turn.
        seconds: a turn of a variant takes about this long at most, and one step at least.
        threads: cores for either framework; 0 for all.
        device: cpu or gpu.
        compile: whether PyTorch's `torch.compile` variants run.
        python: the interpreter that has PyTorch; default this one.
        quick: ResNet-20, training and evaluation, without `torch.compile`.
        resume: keep the cases that the output file already has.
        output: the JSON file; default by the device's name.
    """

    networks: tuple[str, ...] = ("resnet20", "resnet56", "vgg16", "resnet50")
    tasks: tuple[str, ...] = TASKS
    latency: tuple[int, ...] = LATENCY_BATCHES
    batch: int = 128
    large_batch: int = 16
    rounds: int = 5
    steps: int = 10
    seconds: float = 2.0
    threads: int = 0
    device: str = "cpu"
    compile: bool = True
    python: str = sys.executable
    quick: bool = False
    resume: bool = False
    output: Path | None = None


def cases(config: Config) -> list[dict[str, Any]]:
    """List what is measured, each as the fields of `throughput_cases.Case`.

    Example:
        >>> [case["task"] for case in cases(Config(networks=("resnet20",), latency=()))][:4]
        ['train', 'eval', 'stored', 'live']
    """
    found = []
    for name in config.networks:
        batch = config.large_batch if name == "resnet50" else config.batch
        for half in (False, True):
            # The dense network is the teacher: only a shrunk one is fine-tuned.
            tasks = [t for t in config.tasks if half or t in ("train", "eval")]
            todo = [(task, batch) for task in tasks] + [("eval", b) for b in config.latency]
            for task, size in dict.fromkeys(todo):
                found.append({"name": name, "half": half, "task": task, "batch": size})
    return found


def main(config: Config) -> dict[str, Any]:
    """Measure, print and write everything."""
    if config.quick:
        config = dataclasses.replace(
            config, networks=("resnet20",), tasks=("train", "eval"), latency=(), rounds=3, steps=3,
            compile=False,
        )  # fmt: skip
    # Both frameworks hold the GPU at once, so that neither may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[config.device]
    threads = config.threads or len(os.sched_getaffinity(0))
    environment = _environment(config, threads)
    output = config.output or _path(environment["device"], threads, config.quick)
    report: dict[str, Any] = {"environment": environment, "cases": []}
    if config.resume and output.exists():
        report["cases"] = json.loads(output.read_text())["cases"]
    done = [found["case"] for found in report["cases"]]
    for case in cases(config):
        if case in done:
            continue
        measured = measure(case, config, threads)
        own = {"case": case, "config": _plain(config), "commit": environment["commit"]}
        report["cases"].append({**own, **measured})
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{case} done", file=sys.stderr, flush=True)
    Console(width=130).print(table(rows(report["cases"])))
    return report


def measure(case: dict[str, Any], config: Config, threads: int) -> dict[str, Any]:
    """Prepare one case in both frameworks, compare their logits, and time all variants in turns."""
    modules = {JAX: ("throughput_jax", sys.executable), TORCH: ("throughput_torch", config.python)}
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            name: Worker(f"benchmarks.{module}", python, threads, config.device)
            for name, (module, python) in modules.items()
        }
        try:
            found = {}
            for name, worker in workers.items():
                own = {**case, "compile": config.compile} if name == TORCH else case
                found[name] = worker.ask({"case": own, "folder": folder})
                _check(name, case, found[name]["logits_error"])
            timed = _turns(workers, found, config)
            flops = json.loads(Path(folder, "flops.json").read_text())
        finally:
            for worker in workers.values():
                worker.close()
    return {"flops": flops, "frameworks": found, "seconds": timed}


def _check(name: str, case: dict[str, Any], error: float) -> None:
    if not error <= TOLERANCE:
        raise AssertionError(
            f"logits must agree to {TOLERANCE} of the largest before anything is timed, but those "
            f"of {name} for {case} are off by {error:.2e}"
        )


def _turns(workers: dict[str, Worker], found: Any, config: Config) -> dict[str, Any]:
    """Time every variant that runs, the frameworks in turns."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    for _ in range(config.rounds):
        for name, worker in workers.items():
            for variant, first in found[name]["first"].items():
                if isinstance(first, str):
                    continue
                own = seconds[name].setdefault(variant, [])
                steps = _steps(own, config)
                own += worker.ask({"variant": variant, "steps": steps})["seconds"]
    return seconds


def _steps(seconds: list[float], config: Config) -> int:
    """As many steps as asked for that fit the time of a turn, judged by those before."""
    if not seconds:
        return 1
    return max(1, min(config.steps, int(config.seconds / statistics.median(seconds))))


def rows(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn measurements into one row per variant: images/s, spread, ratio to the best PyTorch.

    Example:
        >>> case = {"name": "resnet20", "half": False, "task": "eval", "batch": 100}
        >>> seconds = {"jaxcompress": {"jit": [1.0, 1.0]}, "PyTorch": {"eager": [2.0, 2.0]}}
        >>> first = {"jaxcompress": {"first": {"jit": 3.0}}, "PyTorch": {"first": {"eager": 2.0}}}
        >>> found = rows([{"case": case, "frameworks": first, "seconds": seconds}])
        >>> [(row["variant"], row["rate"], row["ratio"]) for row in found]
        [('jit', 100.0, 2.0), ('eager', 50.0, 1.0)]
    """
    found = []
    for own in measured:
        case, seconds = own["case"], own["seconds"]
        best = min((statistics.median(s) for s in seconds[TORCH].values()), default=None)
        for framework, part in own["frameworks"].items():
            for variant, first in part["first"].items():
                row = {**case, "framework": framework, "variant": variant, "first": first}
                if not isinstance(first, str):
                    row |= _rates(seconds[framework][variant], case["batch"], best)
                found.append(row)
    return found


def _rates(seconds: list[float], batch: int, best: float | None) -> dict[str, float | None]:
    median = statistics.median(seconds)
    quarters = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median] * 3
    return {
        "rate": batch / median,
        "milliseconds": 1000 * median,
        "spread": (quarters[2] - quarters[0]) / 2 / median,
        "ratio": None if best is None else best / median,
    }


def table(found: list[dict[str, Any]]) -> Table:
    """Lay the rows out; a variant that did not run shows why."""
    result = Table(title="images per second; ratio to the best PyTorch variant of the same run")
    for name in (
        "network",
        "task",
        "batch",
        "variant",
        "img/s",
        "±",
        "ms",
        "ratio",
        "first call, s",
    ):
        result.add_column(name, justify="left" if name in ("network", "variant") else "right")
    for row in found:
        size = "half" if row["half"] else "dense"
        cells = [f"{row['name']} {size}", row["task"], str(row["batch"])]
        cells.append(f"{row['framework']} {row['variant']}")
        if "rate" in row:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            cells += [f"{row['rate']:.0f}", f"{row['spread']:.0%}", f"{row['milliseconds']:.1f}"]
            cells += [ratio, f"{row['first']:.1f}"]
        else:
            cells += ["", "", "", "", row["first"]]
        result.add_row(*cells)
    return result


def _environment(config: Config, threads: int) -> dict[str, Any]:
    versions: dict[str, str | None] = {}
    for package in ("torch", "triton"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    own = describe()
    own["versions"] |= versions
    return {**own, "threads": threads, "time": time.strftime("%Y-%m-%d")}


def _path(device: str, threads: int, quick: bool) -> Path:
    name = re.sub(r"[^a-z0-9]+", "_", device.split(", as")[0].lower()).strip("_")
    ending = "_quick" if quick else ""
    return Path(f"benchmarks/results/throughput_{name}_{threads}_threads{ending}.json")


def _plain(config: Config) -> dict[str, Any]:
    """Return the settings that change how a case is measured."""
    own = dataclasses.asdict(config)
    return {name: own[name] for name in ("rounds", "steps", "seconds", "threads", "compile")}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
