"""The stages of comparing ranks: what is learned, compared and really factorized."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import data, environment, report
from experiments.common.measure import Measure, augmented
from experiments.common.stages import Stages
from experiments.common.table import table
from experiments.common.tuning import Tuner
from experiments.ranks import rows as ranks_rows
from experiments.ranks import study
from experiments.ranks.judge import Judge
from experiments.ranks.original import prepare
from experiments.ranks.plot import plot
from experiments.ranks.settings import Config
from jaxcompress import parallel
from jaxcompress.annotations import Json
from jaxcompress.files import file_digest
from jaxcompress.processes import by_first

__all__ = ["main"]

CONSOLE = Console()
Plan = dict[str, Callable[[], list[report.Row]]]


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report."""
    environment.prepare(several=True)
    with Stages(config.workdir, settings_of(config), CONSOLE) as stages:
        return run_all(config, stages)


def settings_of(config: Config) -> dict[str, Json]:
    """Return the settings that all stages of one folder share: of files, what they hold."""
    known = data.load(config.dataset, config.data_dir)
    settings = {**dataclasses.asdict(config), "workdir": "", "data_dir": ""}
    weights = None if config.weights is None else file_digest(config.weights)
    return {**settings, "weights": weights, "data": data.identity(known)}


def run_all(config: Config, stages: Stages) -> list[report.Row]:
    """Run the stages and write the report."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    judge = judge_of(config, keys)
    views, mesh = judge.views, judge.mesh
    tuner = Tuner(judge.network, judge.dataset, views, config.tuning, keys[2], mesh, config.workdir)
    network = judge.network
    graph = jc.trace(network.apply, network.variables, data.image_shape(judge.dataset))
    whole = graph, network.variables
    measure = Measure(judge.dataset, mesh, config.workdir, network.source, original=whole)
    rows = []
    for name, work in plan(config, judge, measure, tuner).items():
        facts = stages.run(name, functools.partial(_facts, work))
        rows += [report.Row.from_json(row) for row in facts["rows"]]
    finish(config, judge.known.seconds, rows)
    return rows


def _facts(work: Callable[[], list[report.Row]]) -> dict[str, Json]:
    return {"rows": [row.to_json() for row in work()]}


def judge_of(config: Config, keys: jax.Array) -> Judge:
    """Load the network, learn what is known of its sites, and say how others are judged."""
    network, dataset, views = prepare(config, keys[3])
    images = augmented(
        dataset,
        keys[0],
        count=config.covariance_images,
        batch_size=config.batch_size,
        settings=views,
    )["image"]
    known = study.learn(network.apply, network.variables, images, keys[0], config.workdir)
    return Judge(
        network,
        dataset,
        views,
        parallel.mesh(),
        known,
        key=keys[1],
        statistics_images=config.statistics_images,
        choice_images=config.choice_images,
        fitting_images=config.fitting_images,
        test_images=config.test_images,
        batch_size=config.batch_size,
    )


def plan(config: Config, judge: Judge, measure: Measure, tuner: Tuner) -> Plan:
    """Return the stages by name; each makes some rows."""
    tuned = config.tuned if config.tuning.epochs else ()
    compared = functools.partial(ranks_rows.dense, judge, measure, bool(config.test_images))
    made: Plan = {"dense": compared}
    for fraction in config.flops:
        for method in config.methods:
            made[f"{method}-{fraction:.2f}"] = functools.partial(
                ranks_rows.compare, judge, method, fraction, config.factors, tuned, tuner
            )
    for fraction in config.final:
        made[f"final-{fraction:.2f}"] = functools.partial(
            ranks_rows.final,
            judge,
            measure,
            config.final_method,
            config.final_factors,
            fraction,
            config.sweeps,
            tuner,
        )
    if config.lossless:
        made["lossless"] = functools.partial(
            ranks_rows.lossless, judge, config.final_factors, config.lossless
        )
    return made


def finish(config: Config, seconds: dict[str, float], rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    table(rows)
    settings = {**dataclasses.asdict(config), "seconds": seconds}
    path = report.write_report(config.workdir, "rank_configuration", settings, rows)
    CONSOLE.print(f"report: {path}")
    if config.flops and config.methods:
        picture = config.workdir / "rank_configuration.png"
        by_first("drawing", lambda: plot(picture, rows))
        CONSOLE.print(f"picture: {picture}")
