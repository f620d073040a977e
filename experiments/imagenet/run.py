"""The stages of a compression for ImageNet, each done once."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import environment, report
from experiments.common.holding import agree_on_settings
from experiments.common.network import Network
from experiments.common.stages import Stages
from experiments.imagenet import checks, pruning, teaching
from experiments.imagenet.learning import learn
from experiments.imagenet.measuring import evaluated
from experiments.imagenet.network import network_of, trained
from experiments.imagenet.projection import project
from experiments.imagenet.reading import Data, load
from experiments.imagenet.results import finish
from experiments.imagenet.settings import Config
from jaxcompress import parallel
from jaxcompress.annotations import Json
from jaxcompress.files import file_digest

__all__ = ["main"]

CONSOLE = Console()
FREE = ("workdir", "data_dir", "threads", "workers", "save_steps", "project")
"""Settings that change nothing of what the stages make."""
GATES, SHRINK, LESSON = 1, 2, 3


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    environment.prepare(several=not config.project)
    if config.project:
        return project(config, CONSOLE)
    agree_on_settings(config)
    checks.check_files(config)
    data = load(config)
    checks.check(config, data.train)
    teacher = trained(config, network_of(config, data.train.num_classes))
    with Stages(config.workdir, settings_of(config, data), CONSOLE) as stages:
        return run_all(data, teacher, stages)


def settings_of(config: Config, data: Data) -> dict[str, Json]:
    """Return the settings that all stages share; paths may move, but not what lies there."""
    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for name in FREE:
        del plain[name]
    assert config.weights is not None
    weights = config.weights
    file = weights / "structure.json" if weights.is_dir() else weights
    identity = [data.train.identity, data.test.identity]
    return {**plain, "weights": file_digest(file), "images": identity}


def run_all(data: Data, teacher: Network, stages: Stages) -> list[report.Row]:
    """Run the stages, and write the report of what they made."""
    facts: dict[str, dict[str, Any]] = {}
    workdir, key = stages.workdir, jax.random.key(data.config.seed)

    def run(name: str, work: Callable[..., Any], *arguments: Any, file: str = "") -> None:
        files = [file] if file else []
        facts[name] = stages.run(name, functools.partial(work, *arguments), files)

    run("teacher", evaluated, data, teacher)
    run("knowledge", teaching.record, data, teacher, workdir / "answers", CONSOLE, file="answers")
    keys = [jax.random.fold_in(key, number) for number in (GATES, SHRINK, LESSON)]
    gates = workdir / "gates"
    run("gates", pruning.choose, data, teacher, keys[0], gates, CONSOLE, file="gates")
    compression = pruning.chosen(gates)
    pruned_folder = workdir / "pruned"
    shrink = data, teacher, compression, keys[1], pruned_folder
    run("shrink", pruning.shrink, *shrink, file="pruned")
    pruned = read(teacher, compression, pruned_folder)
    run("fine-tune", taught, data, teacher, pruned, workdir, keys[2], file="student")
    student = read(teacher, compression, workdir / "student")
    run("measure-pruned", evaluated, data, pruned)
    run("measure-student", evaluated, data, student)
    return finish(data.config, teacher, student, facts, CONSOLE)


def read(teacher: Network, compression: jc.Compression, folder: Path) -> Network:
    """Read a smaller network that a stage has saved."""
    _, variables = jc.load(folder, teacher.apply, like=teacher.variables)
    return teacher.after(compression, variables)


def taught(
    data: Data, teacher: Network, pruned: Network, workdir: Path, key: jax.Array
) -> dict[str, Json]:
    """Teach the pruned network by what is stored; save it as an artifact.

    BatchNorm is renewed at the end: running averages are of the last small batches, and an
    average of variables has no statistics of its own.
    """
    config, mesh = data.config, parallel.mesh()
    lesson = teaching.lesson_of(data, pruned, workdir / "answers")
    folder = workdir / "lesson"
    learned, facts = learn(lesson, pruned.variables, data.lesson(), config, mesh, folder, CONSOLE)
    student = pruned._replace(variables=learned)
    variables, count = pruning.renewed(data, teacher, student, key)
    notes = {"mean": list(config.mean), "std": list(config.std), "image_size": config.image_size}
    jc.save(
        workdir / "student",
        pruned.compression,
        variables,
        network=teacher.source,
        metadata=notes,
    )
    return {**facts, "statistics_images": count}
