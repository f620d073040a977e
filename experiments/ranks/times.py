"""How long choosing ranks takes, split into decomposition, metric and search, and what they cost.

    python -m experiments.ranks.times vgg16
    python -m experiments.ranks.times resnet56

Weights and images are random: times and costs per rank do not depend on them, ranks do. A
row's seconds are those of the decomposition, the metric and the search together; those of `enc_inf`
hold the images it classifies, which `images_seconds` tells apart, but not compiling the network.
It times one machine, and runs in one process.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import jaxcompress as jc
from experiments.common import environment, report
from experiments.common import table as report_table
from experiments.common.command import Command
from experiments.common.timing import timed
from jaxcompress import low_rank, models
from jaxcompress.annotations import Function, PyTree
from jaxcompress.low_rank import ranks

__all__ = ["COMMAND", "Config", "main"]

CONSOLE = Console(width=None if sys.stdout.isatty() else 110)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
        network: name of the network.
        size: height and width of its images.
        num_classes: of its logits.
        flops: budget, a fraction of the network.
        first: factorize the first convolution too.
        candidates: that `enc_inf` evaluates; 0 leaves it out.
        choice_images: that each candidate classifies.
        seed: of the random weights.
        workdir: where the report goes.
    """

    network: str = "vgg16_imagenet"
    size: int = 224
    num_classes: int = 1000
    flops: float = 0.25
    first: bool = True
    candidates: int = 0
    choice_images: int = 512
    seed: int = 0
    workdir: Path = Path("runs/rank_times")


RESNET56 = Config("resnet56", 32, 10, 0.5, False, 20, workdir=Path("runs/rank_times_resnet56"))


def main(config: Config) -> list[report.Row]:
    """Time every part, print the costs per site, and return the rows of the report."""
    environment.prepare()
    module = models.build(config.network, num_classes=config.num_classes)
    shape = (1, config.size, config.size, 3)
    variables = models.initialize(module, jax.random.key(config.seed), shape)
    apply, image = models.evaluation_function(module), jax.ShapeDtypeStruct(shape, np.float32)
    graph, traced = timed(lambda: jc.trace(apply, variables, image))
    forms = ranks.default_forms(graph, first=config.first)
    table, decomposed = timed(lambda: ranks.sites_of(graph, variables, forms))
    metric, measured = timed(lambda: ranks.energy_metric(table))
    budget = jc.Budget(flops=config.flops)
    parts = {"trace_seconds": traced, "svd_seconds": decomposed, "metric_seconds": measured}
    searches: dict[str, Callable[[], ranks.Ranks]] = {
        "enc_map": lambda: ranks.enc_map(table, budget, metric=metric),
        "enc_model": lambda: ranks.enc_model(table, budget, metric=metric),
        "optimum": lambda: ranks.optimum(table, budget, metric=metric),
    }
    rows = []
    for name, search in searches.items():
        chosen, seconds = timed(search)
        rows.append(row(name, table, chosen, seconds, parts))
    if config.candidates:
        chosen, seconds, details = infer(config, apply, variables, graph, table, metric, forms)
        rows.append(row("enc_inf", table, chosen, seconds, {**parts, **details}))
        searches["enc_inf"] = lambda: chosen
    show(table, {name: entry.extra["ranks"] for name, entry in zip(searches, rows, strict=True)})
    report_table.table(rows)
    CONSOLE.print(f"report: {report.write_report(config.workdir, 'rank_times', config, rows)}")
    return rows


def infer(
    config: Config,
    apply: Function,
    variables: PyTree,
    graph: jc.Graph,
    table: ranks.Sites,
    metric: ranks.Metric,
    forms: dict[str, str],
) -> tuple[ranks.Ranks, float, dict[str, float]]:
    """Return ENC-Inf's ranks, the seconds of its search, and what its images took."""
    shape = (config.choice_images, config.size, config.size, 3)
    images = jax.random.normal(jax.random.key(config.seed + 1), shape)
    labels = jax.jit(apply)(variables, images).argmax(-1)
    agreement = jax.jit(lambda tree: (apply(tree, images).argmax(-1) == labels).mean())
    _, compiled = timed(lambda: jax.block_until_ready(agreement(variables)))
    at, decomposed = timed(lambda: low_rank.truncations(graph, variables, forms))
    classified: list[float] = []

    def evaluate(chosen: ranks.Ranks) -> float:
        accuracy, seconds = timed(lambda: float(agreement(at(chosen))))
        classified.append(seconds)
        return accuracy

    budget, count = jc.Budget(flops=config.flops), config.candidates
    inferred, whole = timed(
        lambda: ranks.enc_inf(table, budget, evaluate=evaluate, metric=metric, count=count)
    )
    return (
        inferred,
        decomposed + whole,
        {
            "images_seconds": sum(classified),
            "factors_seconds": decomposed,
            "compile_seconds": compiled,
            "candidates": float(len(classified)),
        },
    )


def row(
    name: str,
    table: ranks.Sites,
    chosen: ranks.Ranks,
    seconds: float,
    parts: dict[str, float],
) -> report.Row:
    """Describe what a search found; `seconds` counts the decomposition and the metric too."""
    array = table.array(chosen)
    return report.Row(
        name,
        flops=float(table.cost("flops", array)),
        num_params=int(table.cost("params", array)),
        seconds=seconds + parts["svd_seconds"] + parts["metric_seconds"],
        extra={
            "search_seconds": seconds,
            "enc_ratio": ranks.enc_ratio(table, chosen),
            "ranks": list(chosen.values()),
            **parts,
        },
    )


def show(table: ranks.Sites, chosen: dict[str, list[int | None]]) -> None:
    """Print costs and ranks per site."""
    grid = Table("site", "r_max", "EVBMF", "MFLOPs", "per rank", *chosen, box=box.SIMPLE)
    for i, name in enumerate(table.names):
        dense, slope = table.dense["flops"][i] / 1e6, table.slope["flops"][i] / 1e6
        shown = [
            "-" if own_ranks[i] is None else str(own_ranks[i]) for own_ranks in chosen.values()
        ]
        cells = [str(table.r_max[i]), str(table.evbmf[i]), f"{dense:,.1f}", f"{slope:.3f}"]
        grid.add_row(name, *cells, *shown)
    CONSOLE.print(grid)


PRESETS = {
    "vgg16": ("VGG-16 for 224x224 images", Config()),
    "resnet56": ("ResNet-56 for 32x32 images, with ENC-Inf", RESNET56),
}
COMMAND = Command("experiments.ranks.times", __doc__, main, PRESETS)

if __name__ == "__main__":
    COMMAND()
