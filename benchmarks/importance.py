"""Every importance here beside Torch-Pruning's: accuracy right after pruning, no fine-tuning.

Same weights (akamaster's CIFAR-10 ResNets), same images, same FLOPs, same BatchNorm re-estimation,
one program that measures everybody. Choices are made on held-out training images (`validation`);
`test` is the number to quote. From the root of a clone, with JAXCOMPRESS_SHARED set:

    python -m benchmarks.importance                                # the whole table, hours
    python -m benchmarks.importance --network resnet20 --ratios 0.5 --test-images 2000 --quick

Torch-Pruning's rows need its packages (`pip install "jaxcompress[bench]"`) and are left out, saying
so, where they are missing. Seconds are for scoring and selecting, compilation included.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import jaxcompress as jc
from benchmarks.importance_methods import METHODS, QUICK, Task
from benchmarks.importance_task import Measure, load_task

__all__ = ["Config", "Row", "main"]

TORCH = ("l1", "l2", "taylor", "hessian", "fpgm", "lamp", "bn_scale", "random")
RANDOMIZED = ("random", "taylor", "hessian")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        network: whose weights are pruned.
        ratios: FLOPs that stay, as fractions.
        methods: of this library; none named: all, or a few with `quick`.
        groups: internal widths, as Torch-Pruning can prune, or residual streams too.
        seeds: repetitions of what is random: score batches, masks, views.
        test_images: how many of the 10,000.
        validation_images: how many held-out training images.
        estimation_images: training images for BatchNorm re-estimation.
        torch_pruning: also its criteria.
        quick: fewer methods.
        output: the JSON file.
    """

    network: Literal["resnet20", "resnet56"] = "resnet56"
    ratios: tuple[float, ...] = (0.6, 0.5, 0.4, 0.3)
    methods: tuple[str, ...] = ()
    groups: Literal["internal", "all"] = "internal"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    test_images: int = 10_000
    validation_images: int = 5_000
    estimation_images: int = 4_096
    torch_pruning: bool = True
    quick: bool = False
    output: Path = Path("benchmarks/results/importance.json")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method at one ratio with one seed; accuracies in percent, by form of re-estimation."""

    library: str
    method: str
    groups: str
    ratio: float
    flops: float
    seed: int
    seconds: float
    validation: dict[str, float]
    test: dict[str, float]


def main(config: Config) -> list[Row]:
    """Measure all rows, write them after each, and print the table."""
    folder = Path(os.environ["JAXCOMPRESS_SHARED"])
    task = load_task(folder, config.network, config.groups, config.validation_images)
    measure = Measure(task, config.test_images, config.estimation_images)
    rows: list[Row] = []
    for library, name, select in _methods(config, task, folder):
        seeds = config.seeds if _is_random(library, name) else config.seeds[:1]
        for ratio, seed in ((ratio, seed) for ratio in config.ratios for seed in seeds):
            started = time.perf_counter()
            try:
                keep = select(jc.Budget(flops=ratio), seed)
            except Exception as error:  # noqa: BLE001  (one method's failure is a result, too)
                print(f"{library} {name} at {ratio:.0%}: {type(error).__name__}: {error}")
                continue
            seconds = time.perf_counter() - started
            flops = float(task.graph.cost.flops(task.graph.cost.widths(keep))) / task.graph.flops
            validation, test = measure(keep, seed)
            row = Row(library, name, config.groups, ratio, flops, seed, seconds, validation, test)
            rows.append(row)
            print(_line(row), flush=True)
            _write(config, rows)
    print(table(rows))
    return rows


def _methods(
    config: Config, task: Task, folder: Path
) -> list[tuple[str, str, Callable[[jc.Budget, int], dict[str, np.ndarray]]]]:
    names: Sequence[str] = config.methods or (QUICK if config.quick else tuple(METHODS))
    found: list[Any] = [("jaxcompress", n, partial(_select, METHODS[n], task)) for n in names]
    if not config.torch_pruning or config.groups == "all":
        return found
    if importlib.util.find_spec("torch_pruning") is None:
        print("Torch-Pruning's rows are left out: torch-pruning is not installed")
        return found
    from benchmarks.torch_pruning import TorchPruning

    pruner = TorchPruning(folder, config.network, task)
    return found + [("torch-pruning", name, partial(pruner.keep, name)) for name in TORCH]


def _select(method: Any, task: Task, budget: jc.Budget, seed: int) -> dict[str, np.ndarray]:
    return method(task, budget, jax.random.fold_in(jax.random.key(2024), seed))


def _is_random(library: str, name: str) -> bool:
    return name in RANDOMIZED or (library == "jaxcompress" and name not in ("l1", "l2"))


def _line(row: Row) -> str:
    accuracies = "  ".join(
        f"{split} {values['augmented']:5.2f} / {values['plain']:5.2f}"
        for split, values in (("validation", row.validation), ("test", row.test))
    )
    head = f"{row.library:13} {row.method:24} {row.ratio:4.0%} seed {row.seed}"
    return f"{head}  {accuracies}  {row.seconds:6.1f} s"


def table(rows: Sequence[Row]) -> str:
    """Format test accuracies, mean (std over seeds), augmented / plain, one line per method."""
    ratios = sorted({row.ratio for row in rows}, reverse=True)
    lines = ["| library | method | " + " | ".join(f"{r:.0%}" for r in ratios) + " | seconds |"]
    lines.append("|" + " --- |" * (len(ratios) + 3))
    for library, method in dict.fromkeys((row.library, row.method) for row in rows):
        own = [row for row in rows if (row.library, row.method) == (library, method)]
        cells = [_cell([row for row in own if row.ratio == ratio]) for ratio in ratios]
        seconds = np.mean([row.seconds for row in own])
        lines.append(f"| {library} | {method} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return "–"
    forms = [[row.test[form] for row in rows] for form in ("augmented", "plain")]
    return " / ".join(f"{np.mean(values):.1f} ({np.std(values):.1f})" for values in forms)


def _write(config: Config, rows: Sequence[Row]) -> None:
    config.output.parent.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    content = {"config": settings, "rows": [dataclasses.asdict(row) for row in rows]}
    content["environment"] = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    config.output.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
