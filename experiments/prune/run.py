"""The stages of pruning one network, each measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import data, environment, report
from experiments.common.choices import of_first
from experiments.common.holding import agree_on_data, held
from experiments.common.measure import Measure, augmented
from experiments.common.network import Network
from experiments.common.published import load
from experiments.common.score import score, source_of
from experiments.common.table import table
from experiments.common.timing import Stopwatch, timed
from experiments.common.tuning import Tuner, Tuning
from experiments.prune.settings import Config
from jaxcompress import parallel, training
from jaxcompress.annotations import Json
from jaxcompress.knowledge.drawing import Views

__all__ = ["main"]

VIEWS = Views()
CONSOLE = Console()


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report; a folder has one run at a time."""
    environment.prepare(several=True)
    with held(config.workdir, config):
        return run_all(config)


def run_all(config: Config) -> list[report.Row]:
    """Run all stages in a folder that is held."""
    dense, dataset = load(config.network, config.weights, config.dataset, config.data_dir)
    agree_on_data(dataset, config.weights)
    mesh = parallel.mesh()
    keys = jax.random.split(jax.random.key(config.seed), 3)
    measure = Measure(dataset, mesh, config.workdir, dense.source)
    rows = [measured(measure, "dense", dense, 0.0, folder="dense")]
    watch = Stopwatch()
    graph = jc.trace(dense.apply, dense.variables, data.image_shape(dataset))
    traced = watch.seconds
    measure = dataclasses.replace(measure, original=(graph, dense.variables))
    scores = scores_of(config, graph, dense, dataset, keys[0])
    budget = jc.Budget(flops=config.flops)
    keep = of_first(jc.select(graph, scores, budget, multiple_of=config.multiple_of))
    seconds = watch.seconds
    small = dense.compressed(jc.shrink(graph, keep))
    rows.append(measured(measure, "shrunk", small, seconds, trace_seconds=traced))

    small, seconds = timed(lambda: reestimated(config, small, dataset, keys[1]))
    rows.append(measured(measure, "re-estimated", small, seconds, folder="pruned"))
    if config.epochs:
        tuner = Tuner(dense, dataset, VIEWS, tuning_of(config), keys[2], mesh)
        variables, seconds = timed(lambda: tuner(small.train_apply, small.variables))
        small = small._replace(variables=variables)
        rows.append(measured(measure, "fine-tuned", small, seconds, folder="finetuned"))
    finish(config, graph, keep, rows)
    return rows


def measured(
    measure: Measure, name: str, network: Network, seconds: float, **fields: Any
) -> report.Row:
    """Measure a network and tell how accurate it is."""
    apply, variables, compression = network.apply, network.variables, network.compression
    row = measure(name, apply, variables, compression, seconds, **fields)
    CONSOLE.print(report.accuracy_line(row))
    return row


def scores_of(
    config: Config, graph: jc.Graph, network: Network, dataset: data.Dataset, key: jax.Array
) -> dict[str, Json]:
    """Score the channels of the groups that may be pruned."""
    groups = list(graph.groups) if config.streams else jc.graph.internal_groups(graph)
    functions = network.apply, network.train_apply
    source = source_of(graph, groups, functions, network.variables, dataset, VIEWS)
    return score(config.importance, source, jc.Budget(flops=config.flops), key)


def reestimated(config: Config, network: Network, dataset: data.Dataset, key: jax.Array) -> Network:
    """Re-estimate BatchNorm statistics on training images."""
    batches = augmented(
        dataset,
        key,
        count=config.statistics_images,
        batch_size=config.batch_size,
        settings=VIEWS if config.augment_statistics else None,
    )
    # On one device: XLA's CPU backend can stall on the many small sums that devices would share.
    variables = parallel.on_one_device(network.variables)
    variables = training.reestimate(network.train_apply, variables, batches["image"], key=key)
    return network._replace(variables=variables)


def tuning_of(config: Config) -> Tuning:
    """Return how the pruned network is fine-tuned."""
    return Tuning(
        epochs=config.epochs,
        train_images=config.train_images,
        rate=config.rate,
        temperature=config.temperature,
        batch_size=config.batch_size,
    )


def finish(config: Config, graph: jc.Graph, keep: Any, rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    table(rows)
    path = report.write_report(config.workdir, "prune", config, rows)
    picture = config.workdir / "prune.png"
    title = f"{config.network} at {config.flops:.0%} FLOPs by {config.importance}"
    report.draw(picture, title, graph, keep, rows)
    CONSOLE.print(f"report: {path}\npicture: {picture}")
