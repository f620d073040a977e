"""The stages of the quickstart, from the trained teacher to the checked student."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxcompress as jc
from experiments.common import data, environment, report
from experiments.common.choices import of_first
from experiments.common.holding import held
from experiments.common.measure import Measure, augmented
from experiments.common.network import Network, untrained
from experiments.common.table import table
from experiments.common.teaching import stored_logits
from experiments.common.timing import Stopwatch
from experiments.common.tuning import Tuning, trained
from experiments.quickstart.fresh import check_fresh_process
from experiments.quickstart.settings import Config
from jaxcompress import models, parallel, training
from jaxcompress.annotations import Batch, PyTree
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.processes import by_first
from jaxcompress.report import curves, details

__all__ = ["main"]

NETWORK = ("resnet20", {"num_classes": 10})
TEACHER_RATE, STUDENT_RATE = 0.1, 0.02
SCORE_BATCHES = 8
CONSOLE = Console()


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report; a folder has one run at a time."""
    environment.prepare(several=True)
    with held(config.workdir, config):
        return run_all(config)


def run_all(config: Config) -> list[report.Row]:
    """Run all stages in a folder that is held."""
    dataset, mesh = data.load("digits"), parallel.mesh()
    keys = jax.random.split(jax.random.key(config.seed), 4)
    measure = Measure(dataset, mesh, config.workdir, NETWORK)

    say("1/5", f"training the teacher, {NETWORK[0]}, on {len(dataset.train_labels)} digits")
    watch = Stopwatch()
    teacher = trained_teacher(config, dataset, keys[:2], mesh)
    rows = [measured(measure, "teacher", teacher, watch, folder="teacher")]

    say("2/5", "recording its logits, once")
    inputs = data.preprocess(dataset)(dataset.train_images)
    logits = stored_logits(teacher.apply, teacher.variables, inputs, batch_size=len(inputs))

    say("3/5", f"tracing and selecting at most {config.flops:.0%} of the FLOPs")
    watch = Stopwatch()
    graph = jc.trace(teacher.apply, teacher.variables, data.image_shape(dataset))
    CONSOLE.print(str(graph).split("\n\n")[0])
    keep = choose(graph, teacher, inputs, dataset.train_labels, config.batch_size, config.flops)
    student = teacher.compressed(jc.shrink(graph, keep))
    rows.append(measured(measure, "pruned", student, watch))
    student = reestimated(student, dataset, config.batch_size, keys[2])
    rows.append(measured(measure, "re-estimated", student, watch))

    say("4/5", "fine-tuning the student with the recorded logits")
    student, history = taught(config, student, dataset, logits, keys[3], mesh)
    row = measured(measure, "student", student, watch, folder="student")
    told = details(graph, student.compression, teacher.variables) | {"curves": curves(history)}
    rows.append(dataclasses.replace(row, extra={**row.extra, "details": told}))

    say("5/5", "loading the student in a fresh process")
    images = np.asarray(data.preprocess(dataset)(dataset.test_images[:64]))
    arguments = config.workdir / "student", student.apply, student.variables, images
    by_first("loading the student", lambda: check_fresh_process(*arguments))
    CONSOLE.print(f"    logits of {len(images)} test images are equal bit for bit")
    finish(config, graph, keep, rows)
    return rows


def say(stage: str, text: str) -> None:
    """Tell what happens next."""
    CONSOLE.print(f"[bold]{stage}[/bold] {text}")


def measured(
    measure: Measure, name: str, network: Network, watch: Stopwatch, folder: str | None = None
) -> report.Row:
    """Measure a network that has taken the time of `watch`."""
    seconds = watch.seconds
    apply, variables, compression = network.apply, network.variables, network.compression
    return measure(name, apply, variables, compression, seconds, folder=folder)


def trained_teacher(
    config: Config, dataset: data.Dataset, keys: jax.Array, mesh: jax.sharding.Mesh
) -> Network:
    """Train a new network by cross-entropy."""
    module = models.build(NETWORK[0], **NETWORK[1])
    variables = models.initialize(module, keys[0], data.image_shape(dataset).shape)
    network = untrained(*NETWORK)
    tuning = Tuning(
        config.teacher_epochs, rate=TEACHER_RATE, distillation=0.0, batch_size=config.batch_size
    )
    run = trained(
        network.train_apply,
        variables,
        dataset,
        tuning,
        views=data.DIGITS_VIEWS,
        key=keys[1],
        mesh=mesh,
    )
    return network._replace(variables=parallel.on_one_device(run.state.variables))


def choose(
    graph: jc.Graph,
    network: Network,
    inputs: PyTree,
    labels: np.ndarray,
    batch_size: int,
    flops: float,
) -> dict[str, np.ndarray]:
    """Score channels by first-order Taylor importance per FLOP and select under the budget."""

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        logits, _ = network.train_apply(variables, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    seen = SCORE_BATCHES * batch_size
    batches = {
        "image": inputs[:seen].reshape(SCORE_BATCHES, -1, *inputs.shape[1:]),
        "label": labels[:seen].reshape(SCORE_BATCHES, -1),
    }
    scores = jc.importance.taylor(graph, loss, network.variables, batches)
    return of_first(jc.select(graph, jc.prune.per_cost(graph, scores), jc.Budget(flops=flops)))


def reestimated(
    network: Network, dataset: data.Dataset, batch_size: int, key: jax.Array
) -> Network:
    """Re-estimate BatchNorm statistics on all training images."""
    count = len(dataset.train_labels)
    batches = augmented(
        dataset, key, count=count, batch_size=batch_size, settings=data.DIGITS_VIEWS
    )
    variables = training.reestimate(
        network.train_apply, network.variables, batches["image"], key=key
    )
    return network._replace(variables=variables)


def taught(
    config: Config,
    network: Network,
    dataset: data.Dataset,
    logits: np.ndarray,
    key: jax.Array,
    mesh: jax.sharding.Mesh,
) -> tuple[Network, list[dict[str, float]]]:
    """Train on with the teacher's logits, which are half of the loss; return the history too."""
    tuning = Tuning(
        config.student_epochs,
        rate=STUDENT_RATE,
        temperature=config.temperature,
        batch_size=config.batch_size,
    )
    run = trained(
        network.train_apply,
        network.variables,
        dataset,
        tuning,
        views=data.DIGITS_VIEWS,
        key=key,
        mesh=mesh,
        logits=logits,
    )
    variables = parallel.on_one_device(run.state.variables)
    return network._replace(variables=variables), run.history


def finish(config: Config, graph: jc.Graph, keep: Any, rows: list[report.Row]) -> None:
    """Print the table; write the report, the picture and the page."""
    table(rows)
    path = report.write_report(config.workdir, "quickstart", config, rows)
    picture = config.workdir / "quickstart.png"
    report.draw(picture, "ResNet-20 on digits", graph, keep, rows)
    ratio = (rows[-1].accuracy or 0) / (rows[0].accuracy or 1)
    CONSOLE.print(f"the student keeps {ratio:.1%} of the teacher's accuracy")
    page = config.workdir / "report.html"
    CONSOLE.print(f"report: {path}\npicture: {picture}\npage: {page}")
