"""The stages of compressing on limited resources: the student is taught, measured and reported."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

import jaxcompress as jc
from experiments.common import data, environment, report, student_stages, teacher
from experiments.common.fit import fit
from experiments.common.keeping import restored, save
from experiments.common.lessons import Dense, lesson
from experiments.common.making import schedule_of
from experiments.common.measure import Measure
from experiments.common.spread import spread_of
from experiments.common.stages import Stages
from experiments.common.student_checks import check_student
from experiments.limited_resources import projection
from experiments.limited_resources.results import finish, outputs_of
from experiments.limited_resources.settings import Config
from jaxcompress import models, parallel
from jaxcompress.annotations import Json, PyTree

__all__ = ["main"]

CONSOLE = Console()
STAGES = ("teacher", "knowledge", "gates", "shrink", "fine-tune")
FREE = ("method",)
"""Ways to teach share the stages before: each has its own last stage."""
Facts = dict[str, dict[str, Any]]


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    environment.prepare(several=not config.project)
    if config.project:
        return projection.project(config, CONSOLE)
    dataset = teacher.dataset_of(config)
    check_student(config, (config.method,), dataset)
    settings = student_stages.settings_of(config, dataset, FREE)
    with Stages(config.workdir, settings, CONSOLE) as stages:
        return run_all(config, dataset, stages)


def run_all(config: Config, dataset: data.Dataset, stages: Stages) -> list[report.Row]:
    """Run the stages, measure what they made, and write the report."""
    keys = dict(zip(STAGES, jax.random.split(jax.random.key(config.seed), 5), strict=True))
    network = teacher.network_of(config, dataset)
    module, mesh = models.build(network[0], **network[1]), parallel.mesh()
    by_stage: Facts = {}

    def run(name: str, work: Callable[[], dict[str, Any]], files: Sequence[str]) -> None:
        stage = next(stage for stage in STAGES if name.startswith(stage))
        by_stage[stage] = stages.run(name, work, files)

    variables = student_stages.trained_teacher(config, module, dataset, mesh, keys["teacher"], run)
    student_stages.store_knowledge(config, config.method, module, variables, dataset, run)
    dense, small = student_stages.pruned(
        config, module, variables, dataset, mesh, (keys["gates"], keys["shrink"]), run
    )
    name = f"student-{config.method}"
    work = functools.partial(
        finetune, config, name, module, dense, small, dataset, mesh, keys["fine-tune"]
    )
    run(f"fine-tune-{config.method}", work, [name])
    student = restored(config.workdir / name, small)
    measure = Measure(dataset, mesh, outputs_of(config) / "artifacts", network)
    rows = measure_all(config, measure, module, dense, small, student, by_stage)
    finish(config, dense.graph, dense.keep, dense.variables, rows, by_stage)
    return rows


def finetune(
    config: Config,
    name: str,
    module: Any,
    dense: Dense,
    small: PyTree,
    dataset: data.Dataset,
    mesh: Mesh,
    key: jax.Array,
) -> dict[str, Json]:
    """Teach the pruned network, and save it under a name."""
    taught = lesson(config.method, config, module, dense, small, dataset, key)
    schedule = schedule_of(config, config.student_rate, config.student_epochs)
    state = config.workdir / f"{name}-state"
    save(config.workdir / name, fit(taught, small, dataset, schedule, key, mesh, state))
    return {}


def measure_all(
    config: Config,
    measure: Measure,
    module: Any,
    dense: Dense,
    small: PyTree,
    student: Any,
    by_stage: Facts,
) -> list[report.Row]:
    """Measure the teacher, the pruned network and the student; the artifacts are saved here."""
    apply, prune = models.evaluation_function(module), jc.shrink(dense.graph, dense.keep)
    after = prune.function(apply)
    seconds = {name: facts["seconds"] for name, facts in by_stage.items()}
    plan = {
        "teacher": (apply, dense.variables, jc.chain(), seconds["teacher"]),
        "pruned": (after, small, prune, seconds["gates"] + seconds["shrink"]),
        "student": (after, student, prune, seconds["knowledge"] + seconds["fine-tune"]),
    }
    preprocess, images = data.preprocess(measure.dataset), measure.dataset.test_images
    rows = []
    for name, (function, variables, compression, taken) in plan.items():
        spread = spread_of(function, variables, images, preprocess, config.views)
        rows.append(measure(name, function, variables, compression, taken, folder=name, **spread))
    return rows
