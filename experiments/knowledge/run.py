"""The stages of the comparison: those that all ways to teach share, and one for each."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

import jaxcompress as jc
from experiments.common import data, environment, report, student_stages, teacher
from experiments.common.distill import Method
from experiments.common.fit import fit
from experiments.common.lessons import Dense, lesson
from experiments.common.making import schedule_of
from experiments.common.measure import accuracy_of
from experiments.common.spread import spread_of
from experiments.common.stages import Stages
from experiments.common.student_checks import check_student
from experiments.knowledge.settings import Config
from jaxcompress import models, parallel
from jaxcompress.annotations import Function, Json, PyTree

__all__ = ["Arms", "main", "prepare"]

CONSOLE = Console()
FREE = ("methods", "seeds", "only_finished")
UNSTORED: tuple[Method, ...] = ("none", "live", "bank")


@dataclasses.dataclass(frozen=True)
class Arms:
    """What all ways to teach share.

    Attributes:
        config: of the experiment.
        dataset: its data.
        mesh: the devices.
        module: the teacher.
        dense: its variables, and what is kept of it.
        small: variables of the pruned network.
        stages: one for each way and seed.
    """

    config: Config
    dataset: data.Dataset
    mesh: Mesh
    module: Any
    dense: Dense
    small: PyTree
    stages: Stages

    def networks(self) -> list[dict[str, Json]]:
        """Measure the teacher and the network before it is taught."""
        apply = models.evaluation_function(self.module)
        plan = {
            "teacher": functools.partial(self.measured, apply, self.dense.variables),
            "pruned": functools.partial(self.measured, self._function(), self.small),
        }
        return [self.stages.run(f"measure-{name}", work) for name, work in plan.items()]

    def _function(self) -> Any:
        prune = jc.shrink(self.dense.graph, self.dense.keep)
        return prune.function(models.evaluation_function(self.module))

    def arm(self, method: Method, seed: int) -> dict[str, Json]:
        """Teach the pruned network in one way with one seed."""
        if method not in UNSTORED:
            student_stages.store_knowledge(
                self.config,
                method,
                self.module,
                self.dense.variables,
                self.dataset,
                self.stages.run,
            )
        return self.stages.run(f"{method}-{seed}", lambda: self.teach(method, seed))

    def done(self, method: Method, seed: int) -> bool:
        """Whether this stage has finished."""
        return self.stages.done(f"{method}-{seed}")

    def teach(self, method: Method, seed: int) -> dict[str, Json]:
        """Train one student and measure it."""
        config, key, begun = self.config, jax.random.key(1 + seed), time.process_time()
        taught = lesson(method, config, self.module, self.dense, self.small, self.dataset, key)
        prepared, ends = time.process_time() - begun, [time.process_time()]
        schedule = schedule_of(config, config.student_rate, config.student_epochs)
        note = lambda: ends.append(time.process_time())  # noqa: E731
        state = config.workdir / f"{method}-{seed}-state"
        student = fit(taught, self.small, self.dataset, schedule, key, self.mesh, state, note)
        return {
            **self.measured(self._function(), student),
            "prepare_cpu_seconds": prepared,
            "epoch_cpu_seconds": float(np.median(np.diff(ends))),
        }

    def measured(self, apply: Function, variables: PyTree) -> dict[str, Json]:
        """Return accuracy on the test images and the variance over views, of test and training."""
        dataset, preprocess = self.dataset, data.preprocess(self.dataset)
        accuracy, _ = accuracy_of(apply, variables, dataset, self.mesh)
        test, train = (
            spread_of(apply, variables, images, preprocess, self.config.views)
            for images in (dataset.test_images, dataset.train_images)
        )
        return {
            "accuracy": accuracy,
            **test,
            **{f"train_{name}": value for name, value in train.items()},
        }


def main(config: Config) -> list[report.Row]:
    """Run the arms that are not done; print and write the table of all that were asked for."""
    environment.prepare(several=True)
    dataset = teacher.dataset_of(config)
    check_student(config, config.methods, dataset)
    settings = student_stages.settings_of(config, dataset, FREE)
    with Stages(config.workdir, settings, CONSOLE) as stages:
        return compare(config, prepare(config, dataset, stages))


def prepare(config: Config, dataset: data.Dataset, stages: Stages) -> Arms:
    """Make the teacher and the pruned network, where that is not done."""
    name, options = teacher.network_of(config, dataset)
    module, mesh, key = models.build(name, **options), parallel.mesh(), jax.random.key(config.seed)
    variables = student_stages.trained_teacher(config, module, dataset, mesh, key, stages.run)
    dense, small = student_stages.pruned(
        config, module, variables, dataset, mesh, (key, key), stages.run
    )
    return Arms(config, dataset, mesh, module, dense, small, stages)


def compare(config: Config, arms: Arms) -> list[report.Row]:
    """Run the arms that were asked for, and write their table."""
    dense, pruned = arms.networks()
    rows = [row_of("teacher", [dense]), row_of("pruned", [pruned])]
    by_method: dict[Method, list[dict[str, Any]]] = {method: [] for method in config.methods}
    # All ways with one seed before the next: stopped early, the comparison is whole.
    for seed in config.seeds:
        for method in config.methods:
            if arms.done(method, seed) or not config.only_finished:
                by_method[method].append(arms.arm(method, seed))
    rows += [row_of(method, seeds) for method, seeds in by_method.items() if seeds]
    for row in rows:
        values = ", ".join(f"{name} {value:.4f}" for name, value in row.extra.items())
        CONSOLE.print(f"{row.name}: {row.accuracy:.2%}, {values}", soft_wrap=True)
    report.write_report(config.workdir, "knowledge_ablation", config, rows)
    return rows


NUMBERS = (
    "view_variance",
    "view_ratio",
    "train_view_variance",
    "train_view_ratio",
    "prepare_cpu_seconds",
    "epoch_cpu_seconds",
)


def row_of(name: str, seeds: list[dict[str, Any]]) -> report.Row:
    """Return the mean over seeds, and what each seed gave for the accuracy."""
    accuracies = [seed["accuracy"] for seed in seeds]
    known = [number for number in NUMBERS if number in seeds[0]]
    extra: dict[str, Json] = {n: float(np.mean([seed[n] for seed in seeds])) for n in known}
    if len(seeds) > 1:
        extra["accuracy_std"] = float(np.std(accuracies, ddof=1))
    extra |= {f"accuracy_{i}": accuracy for i, accuracy in enumerate(accuracies)}
    return report.Row(name, accuracy=float(np.mean(accuracies)), extra=extra)
