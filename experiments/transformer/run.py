"""The stages: a network, its stored answers, what each way leaves of it, and what it learns."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import Any, NamedTuple

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import environment, report
from experiments.common.holding import agree_on_settings
from experiments.common.measure import count_nonzero
from experiments.common.stages import Stages
from experiments.common.table import table
from experiments.transformer.language import language_task
from experiments.transformer.learning import learn
from experiments.transformer.sentences import sentence_task
from experiments.transformer.settings import Config, Way
from experiments.transformer.task import Task, inputs_of
from experiments.transformer.ways import WAYS, Problem, looked_at
from jaxcompress import artifact, knowledge, recipes
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.knowledge import store

__all__ = ["main"]

CONSOLE = Console()
FREE = ("workdir", "ways", "budgets")
"""Every way and budget has stages of its own, so that more of them may join later."""


class Student(NamedTuple):
    """A compressed network, by the name of its stage and its artifact."""

    name: str
    way: Way
    share: float


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    environment.prepare(several=True)
    agree_on_settings(config)
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    kept = {name: value for name, value in settings.items() if name not in FREE}
    with Stages(config.workdir, {"transformer": kept}, CONSOLE) as stages:
        is_language = config.task == "language"
        task = language_task(config, stages.run) if is_language else sentence_task(config)
        return run_all(config, task, stages)


def run_all(config: Config, task: Task, stages: Stages) -> list[report.Row]:
    """Compress by every way to every budget, teach, measure, and write the report."""
    folder = config.workdir / "knowledge"
    stages.run("knowledge", partial(store_answers, task, folder), ["knowledge"])
    rows = [row_of(task, "whole", task.apply, task.variables, {})]
    for share in config.budgets:
        for way in config.ways:
            student = Student(f"{way}-{share:g}", way, share)
            rows += compressed_and_taught(config, task, student, stages)
    table(rows, CONSOLE)
    for row in rows:
        CONSOLE.print(f"{row.name}: {task.metric} {row.extra['score']:.4f}")
    path = report.write_report(config.workdir, "transformer", config, rows)
    CONSOLE.print(f"report: {path}")
    return rows


def store_answers(task: Task, folder: Any) -> dict[str, Json]:
    """Ask the whole network once about all sequences."""

    def teacher(variables: PyTree, inputs: PyTree) -> dict[str, Array]:
        return {store.LOGITS: task.apply(variables, inputs)}

    count = len(task.sequences["tokens"])
    source = knowledge.Source(
        dict(task.sequences),
        count,
        knowledge.fingerprint(task.sequences["tokens"]),
        mask=task.mask,
    )
    storage = store.Storage(top_k=task.top_k)
    manifest = store.write(folder, teacher, task.variables, source, storage=storage)
    return {"sequences": count, "bytes": store.num_bytes(manifest)}


def compressed_and_taught(
    config: Config, task: Task, student: Student, stages: Stages
) -> list[report.Row]:
    """Return the rows of a network right after a budget is met, and after it has learned."""
    taught = f"{student.name}-taught"
    made = partial(compress, config, task, student)
    facts = stages.run(student.name, made, [student.name])
    function, variables = jc.load(config.workdir / student.name, task.apply)
    first = row_of(task, student.name, function, variables, facts)
    made = partial(teach, config, task, student, function, variables)
    facts = stages.run(taught, made, [taught])
    function, variables = jc.load(config.workdir / taught, task.apply)
    return [first, row_of(task, taught, function, variables, facts)]


def compress(config: Config, task: Task, student: Student) -> dict[str, Json]:
    """Meet the budget, and save what is left."""
    key = jax.random.key(config.seed)
    batches = looked_at(task, config.looked_at)
    problem = Problem(task, batches, config.kind, student.share, config.scoring, key)
    made = WAYS[student.way](problem)
    folder = config.workdir / student.name
    jc.save(folder, made.compression, made.variables, network=task.network)
    return {"bytes": artifact.num_bytes(folder)}


def teach(
    config: Config, task: Task, student: Student, function: Function, variables: PyTree
) -> dict[str, Json]:
    """Let a compressed network learn from stored answers, and save it."""

    def train_apply(values: PyTree, inputs: Batch, key: jax.Array) -> tuple[Array, dict[str, Any]]:
        del key
        return function(values, inputs), {}

    lesson = recipes.distill(
        train_apply,
        store.open_store(config.workdir / "knowledge"),
        labels=task.labels,
        distance=task.lesson,
        inputs=inputs_of,
        mask=task.mask,
    )
    held = student.way == "sparse"
    learned, loss = learn(
        lesson.training_loss,
        variables,
        task.sequences,
        config.recovery,
        seed=config.seed,
        knowledge=lesson.knowledge,
        wholes=() if task.mask else tuple(lesson.knowledge),
        held=held,
    )
    folder = config.workdir / f"{student.name}-taught"
    spec = artifact.inspect(config.workdir / student.name)["spec"]
    jc.save(folder, jc.from_spec(spec), learned, network=task.network)
    return {"loss": loss, "bytes": artifact.num_bytes(folder)}


def row_of(
    task: Task, name: str, apply: Function, variables: PyTree, facts: dict[str, Any]
) -> report.Row:
    """Judge and count one network."""
    one = {key: array[:1] for key, array in task.sequences.items()}
    graph = jc.trace(apply, variables, one)
    return report.Row(
        name=name,
        num_params=graph.params,
        num_nonzero=count_nonzero(variables),
        flops=graph.flops,
        bytes=facts.get("bytes"),
        seconds=facts.get("seconds"),
        extra={
            "score": task.judge(apply, variables),
            "metric": task.metric,
            "lower_is_better": task.lower_is_better,
            "cpu_seconds": facts.get("cpu_seconds"),
        },
    )
