"""Compress a network end to end, on data that needs no download.

Trains a ResNet-20 teacher on scikit-learn's handwritten digits, records its logits, removes half of
its FLOPs, shrinks it for good, fine-tunes the student with the recorded logits, saves it, and
checks in a fresh process that the loaded student answers the same.

    python -m experiments.quickstart

The last lines say where `report.json` and the picture are.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, loop, report  # noqa: E402
from experiments.measure import Measure, augmented  # noqa: E402
from jaxcompress import models, parallel, training  # noqa: E402
from jaxcompress.files import locked  # noqa: E402
from jaxcompress.knowledge.drawing import Views  # noqa: E402
from jaxcompress.knowledge.losses import cross_entropy, kd  # noqa: E402
from jaxcompress.report import plot_compression  # noqa: E402

__all__ = ["Config", "main"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What the quickstart does.

    Attributes:
        workdir: where the report, the picture and the artifacts go.
        flops: largest fraction of the teacher's FLOPs that the student may use.
        teacher_epochs: passes over the 1,437 training images.
        student_epochs: passes while fine-tuning.
        batch_size: images per step.
        temperature: of the distillation.
        seed: of everything random.
    """

    workdir: Path = Path("runs/quickstart")
    flops: float = 0.5
    teacher_epochs: int = 20
    student_epochs: int = 10
    batch_size: int = 128
    temperature: float = 4.0
    seed: int = 0


NETWORK = ("resnet20", {"num_classes": 10})
SHAPE = (1, 8, 8, 1)
VIEWS = Views(pad=1, flip=False)
CONSOLE = Console()


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report; a folder has one run at a time."""
    config.workdir.mkdir(parents=True, exist_ok=True)
    with locked(config.workdir):
        return run_all(config)


def run_all(config: Config) -> list[report.Row]:
    """Run all stages in a folder that is held."""
    dataset, mesh = data.load("digits"), parallel.mesh()
    module = models.build(NETWORK[0], **NETWORK[1])
    apply, train_apply = models.evaluation_function(module), models.training_function(module)
    keys = jax.random.split(jax.random.key(config.seed), 4)
    measure = Measure(dataset, mesh, config.workdir, NETWORK)

    variables = models.initialize(module, keys[0], SHAPE)
    say("1/5", f"training the teacher, {NETWORK[0]}, on {len(dataset.train_labels)} digits")
    started = time.perf_counter()
    variables = fit(train_apply, variables, dataset, config.teacher_epochs, config, keys[1], mesh)
    teacher = measure(
        "teacher", apply, variables, jc.chain(), time.perf_counter() - started, folder="teacher"
    )

    say("2/5", "recording its logits, once")
    inputs = data.preprocess(dataset)(dataset.train_images)
    logits = np.asarray(jax.jit(apply)(variables, inputs))

    say("3/5", f"tracing and selecting at most {config.flops:.0%} of the FLOPs")
    started = time.perf_counter()
    graph = jc.trace(apply, variables, jnp.zeros(SHAPE))
    CONSOLE.print(str(graph).split("\n\n")[0])
    keep = choose(graph, train_apply, variables, inputs, dataset, config)
    prune = jc.shrink(graph, keep)
    small, small_apply = prune.variables(variables), prune.function(apply)
    small_train = prune.function(train_apply)
    pruned = measure("pruned", small_apply, small, prune, time.perf_counter() - started)
    batches = augmented(dataset, keys[2], count=1437, batch_size=config.batch_size, settings=VIEWS)
    small = training.reestimate(small_train, small, batches["image"], keys[2])
    renewed = measure("re-estimated", small_apply, small, prune, time.perf_counter() - started)

    say("4/5", "fine-tuning the student with the recorded logits")
    small = fit(
        small_train, small, dataset, config.student_epochs, config, keys[3], mesh, logits, 0.02
    )
    student = measure(
        "student", small_apply, small, prune, time.perf_counter() - started, folder="student"
    )

    say("5/5", "loading the student in a fresh process")
    check_fresh_process(config.workdir / "student", small_apply, small, dataset)
    rows = [teacher, pruned, renewed, student]
    finish(config, graph, keep, rows)
    return rows


def say(stage: str, text: str) -> None:
    """Tell what happens next."""
    CONSOLE.print(f"[bold]{stage}[/bold] {text}")


def choose(
    graph: jc.Graph,
    train_apply: Any,
    variables: Any,
    inputs: Any,
    dataset: data.Dataset,
    config: Config,
) -> dict[str, np.ndarray]:
    """Score channels by first-order Taylor importance per FLOP and select under the budget."""

    def loss(own: Any, batch: Any) -> jax.Array:
        logits, _ = train_apply(own, batch["image"])
        return cross_entropy(logits, batch["label"]).mean()

    count = 8
    batches = {
        "image": inputs[: count * config.batch_size].reshape(count, -1, *SHAPE[1:]),
        "label": dataset.train_labels[: count * config.batch_size].reshape(count, -1),
    }
    scores = jc.importance.taylor(graph, loss, variables, batches)
    scores = jc.prune.per_cost(graph, scores)
    return jc.select(graph, scores, jc.Budget(flops=config.flops))


def fit(
    train_apply: Any,
    variables: Any,
    dataset: data.Dataset,
    epochs: int,
    config: Config,
    key: jax.Array,
    mesh: Any,
    logits: np.ndarray | None = None,
    rate: float = 0.1,
) -> Any:
    """Train by cross-entropy; with stored logits, half of the loss is distillation."""

    def loss(own: Any, batch: Any, _: jax.Array) -> Any:
        outputs, state = train_apply(own, batch["image"])
        value = cross_entropy(outputs, batch["label"])
        if logits is not None:
            value = 0.5 * value + 0.5 * kd(outputs, batch["logits"], config.temperature)
        value = value.mean()
        return value, (state, {"loss": value})

    steps = epochs * (len(dataset.train_labels) // config.batch_size)
    tx = optax.chain(
        optax.add_decayed_weights(5e-4),
        optax.sgd(optax.cosine_decay_schedule(rate, steps), momentum=0.9, nesterov=True),
    )
    trained = loop.train(
        loss,
        tx,
        variables,
        dataset,
        epochs=epochs,
        batch_size=config.batch_size,
        key=key,
        mesh=mesh,
        views=VIEWS,
        extra=None if logits is None else {"logits": logits},
    )
    return trained.state.variables


FRESH = """
import sys, numpy, jax, jaxcompress
function, variables = jaxcompress.load(sys.argv[1])
inputs = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], numpy.asarray(jax.jit(function)(variables, inputs)))
"""


def check_fresh_process(folder: Path, apply: Any, variables: Any, dataset: data.Dataset) -> None:
    """Raise unless the artifact, loaded in a new process, gives the same logits bit for bit."""
    inputs, outputs = folder.parent / "inputs.npy", folder.parent / "outputs.npy"
    images = np.asarray(data.preprocess(dataset)(dataset.test_images[:64]))
    np.save(inputs, images)
    arguments = [sys.executable, "-c", FRESH, str(folder), str(inputs), str(outputs)]
    subprocess.run(arguments, check=True)
    own = jax.device_put(variables, jax.devices()[0])
    here, there = np.asarray(jax.jit(apply)(own, images)), np.load(outputs)
    if not np.array_equal(here, there):
        raise AssertionError(f"logits differ by up to {np.abs(here - there).max()}")
    CONSOLE.print(f"    logits of {len(images)} test images are equal bit for bit")


def finish(config: Config, graph: jc.Graph, keep: Any, rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    report.table(rows)
    path = report.write_report(config.workdir, "quickstart", config, rows)
    picture = config.workdir / "quickstart.png"
    dictionaries = [row.to_json() for row in rows]
    plot_compression(picture, "ResNet-20 on digits", graph, keep, dictionaries)
    ratio = (rows[-1].accuracy or 0) / (rows[0].accuracy or 1)
    CONSOLE.print(f"the student keeps {ratio:.1%} of the teacher's accuracy")
    CONSOLE.print(f"report: {path}\npicture: {picture}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
