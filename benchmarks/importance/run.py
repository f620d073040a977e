"""The measurement: every method, ratio and seed that is missing from the file."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import jax

import jaxcompress as jc
from benchmarks.importance.methods import METHODS, Keep, Method
from benchmarks.importance.recovery import Recover
from benchmarks.importance.rows import Row, Rows, table
from benchmarks.importance.settings import Config, Library, Torch
from benchmarks.importance.task import Measure, Task, load_task
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch

__all__ = ["main"]

TORCH: tuple[Torch, ...] = get_args(Torch)
DETERMINISTIC: Mapping[Library, tuple[str, ...]] = MappingProxyType(
    {
        "jaxcompress": ("l1", "l2", "l2_not_normalised"),
        "torch-pruning": ("l1", "l2", "fpgm", "lamp", "bn_scale"),
    }
)
Choose = Callable[[jc.Budget], Keep]


def main(config: Config) -> list[Row]:
    """Measure the rows that are missing, add each to the file, and print the table."""
    prepare()
    environment = describe()
    commit = environment.pop("commit")
    rows = Rows(config.output, {**config.settings(), "environment": environment})
    folder = Path(os.environ["JAXCOMPRESS_SHARED"])
    task = load_task(folder, config.network, config.groups)
    images = (config.test_images, config.validation_images, config.estimation_images)
    measure = Measure(task, *images, config.forms, Recover(task, config.recovery_steps))
    for library, name, seed, method in _runs(config, task, folder):
        done = {row.key for row in rows.read()}
        keys = {r: (library, name, config.groups, r, seed) for r in config.ratios}
        missing = [ratio for ratio, key in keys.items() if key not in done]
        if not missing:
            continue
        watch = Stopwatch(time.process_time)
        choose = method(seed)
        shared = watch.seconds
        for ratio in missing:
            watch = Stopwatch(time.process_time)
            keep = choose(jc.Budget(flops=ratio))
            seconds = shared + watch.seconds
            flops = float(task.graph.cost.flops(task.graph.cost.widths(keep))) / task.graph.flops
            validation, test = measure(keep, seed)
            row = Row(*keys[ratio][:4], flops, seed, seconds, validation, test, commit)
            rows.add(row)
            print(_line(row), flush=True)
    print(table(rows.read()))
    return rows.read()


def _runs(
    config: Config, task: Task, folder: Path
) -> Iterator[tuple[Library, str, int, Callable[[int], Choose]]]:
    """Yield (library, method, seed, prepare), first seeds first."""
    methods = [*_ours(config, task), *_torch_pruning(config, task, folder)]
    for seed in config.seeds:
        for library, name, method in methods:
            if seed == config.seeds[0] or name not in DETERMINISTIC[library]:
                yield library, name, seed, method


def _ours(config: Config, task: Task) -> list[tuple[Library, str, Callable[[int], Choose]]]:
    names = [n for n in METHODS if not config.methods or n in config.methods]
    if "jaxcompress" not in config.libraries:
        return []

    def scored(method: Method, seed: int) -> Choose:
        return method(task, jax.random.fold_in(jax.random.key(2024), seed))

    return [("jaxcompress", name, partial(scored, METHODS[name])) for name in names]


def _torch_pruning(
    config: Config, task: Task, folder: Path
) -> list[tuple[Library, str, Callable[[int], Choose]]]:
    if "torch-pruning" not in config.libraries or config.groups == "all":
        return []
    if importlib.util.find_spec("torch_pruning") is None:
        print("Torch-Pruning's rows are left out: torch-pruning is not installed")
        return []
    from benchmarks.importance.torch_pruning import TorchPruning

    pruner = TorchPruning(folder, config.network, task)
    names = [n for n in TORCH if not config.methods or n in config.methods]
    return [("torch-pruning", n, partial(pruner.prepare, n)) for n in names]


def _line(row: Row) -> str:
    accuracies = "  ".join(
        f"{split} " + " / ".join(f"{value:5.2f}" for value in values.values())
        for split, values in (("validation", row.validation), ("test", row.test))
        if values
    )
    head = f"{row.library:13} {row.method:24} {row.ratio:4.0%} seed {row.seed}"
    return f"{head}  {accuracies}  {row.cpu_seconds:6.1f} s"
