"""Prune a trained network to a fraction of its FLOPs, shrink it, and measure every step.

    python -m experiments.prune --model resnet56 --weights resnet56_cifar10.safetensors \\
        --data-dir tensorflow_datasets --flops 0.5

Rows of the report: the dense network; shrunk; with BatchNorm statistics re-estimated on augmented
training images; and, with `--epochs`, fine-tuned by cross-entropy and distillation from the dense
network's stored logits.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, report, tuning  # noqa: E402
from experiments.measure import Measure, augmented  # noqa: E402
from experiments.score import Importance, score, source_of  # noqa: E402
from jaxcompress import models, parallel, training  # noqa: E402
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights  # noqa: E402
from jaxcompress.files import locked  # noqa: E402
from jaxcompress.knowledge.drawing import Views  # noqa: E402
from jaxcompress.report import plot_compression  # noqa: E402

__all__ = ["Config", "main"]

CONSOLE = Console()


@dataclasses.dataclass(frozen=True)
class Config:
    """What is pruned, and how.

    Attributes:
        weights: PyTorch state dict of a CIFAR ResNet, as safetensors.
        data_dir: folder of TFDS's prepared data.
        model: name of the network.
        dataset: name of the data set.
        flops: largest fraction of the FLOPs that may remain.
        importance: how channels are scored, see `experiments.score`.
        streams: prune residual streams too, not only the widths inside blocks.
        multiple_of: widths are multiples of this.
        statistics_images: training images that BatchNorm statistics are re-estimated on.
        augment_statistics: augment those images; without it even an unpruned network loses.
        epochs: of fine-tuning; 0 for none.
        train_images: how many training images fine-tuning sees; 0 for all.
        rate: learning rate of fine-tuning.
        temperature: of the distillation.
        batch_size: images per step.
        seed: of everything random.
        workdir: where the report, the picture and the artifacts go.
    """

    weights: Path
    data_dir: Path
    model: str = "resnet56"
    dataset: str = "cifar10"
    flops: float = 0.5
    importance: Importance = "learned"
    streams: bool = False
    multiple_of: int = 1
    statistics_images: int = 4096
    augment_statistics: bool = True
    epochs: int = 0
    train_images: int = 0
    rate: float = 0.02
    temperature: float = 4.0
    batch_size: int = 128
    seed: int = 0
    workdir: Path = Path("runs/prune")


class Task(NamedTuple):
    """The network at hand and its data."""

    apply: Callable[..., Any]
    train_apply: Callable[..., Any]
    variables: Any
    dataset: data.Dataset
    mesh: Any
    views: Views


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report; a folder has one run at a time."""
    config.workdir.mkdir(parents=True, exist_ok=True)
    with locked(config.workdir):
        return run_all(config)


def run_all(config: Config) -> list[report.Row]:
    """Run all stages in a folder that is held."""
    task = prepare(config)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    network = (config.model, {"num_classes": task.dataset.num_classes})
    measure = Measure(task.dataset, task.mesh, config.workdir, network)
    rows = [measure("dense", task.apply, task.variables, jc.chain(), 0.0, folder="dense")]
    say(rows[-1])

    started = time.perf_counter()
    graph = jc.trace(task.apply, task.variables, image_shape(task.dataset))
    traced = time.perf_counter() - started
    keep = jc.select(
        graph,
        scores_of(config, graph, task, keys[0]),
        jc.Budget(flops=config.flops),
        multiple_of=config.multiple_of,
    )
    seconds = time.perf_counter() - started
    prune = jc.shrink(graph, keep)
    small, apply = prune.variables(task.variables), prune.function(task.apply)
    rows.append(measure("shrunk", apply, small, prune, seconds, trace_seconds=traced))
    say(rows[-1])

    started = time.perf_counter()
    train_apply = prune.function(task.train_apply)
    small = renew(config, task, train_apply, small, keys[1])
    seconds = time.perf_counter() - started
    rows.append(measure("re-estimated", apply, small, prune, seconds, folder="pruned"))
    say(rows[-1])

    if config.epochs:
        started = time.perf_counter()
        length = tuning.Tuning(
            epochs=config.epochs,
            train_images=config.train_images,
            rate=config.rate,
            temperature=config.temperature,
            batch_size=config.batch_size,
        )
        small = tuning.Tuner(task, length, keys[2])(train_apply, small)
        seconds = time.perf_counter() - started
        rows.append(measure("fine-tuned", apply, small, prune, seconds, folder="finetuned"))
    finish(config, graph, keep, rows)
    return rows


def prepare(config: Config) -> Task:
    """Load the data set and the network, refusing what does not fit before any work starts."""
    found = data.load(config.dataset, config.data_dir)
    mean, std = data.IMAGENET
    found = dataclasses.replace(found, mean=mean, std=std)
    module = models.build(config.model, num_classes=found.num_classes)
    shape = (1, *found.test_images.shape[1:])
    like = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), shape))
    variables = load_torch_weights(config.weights, like, akamaster_resnet_name)
    apply, train_apply = models.evaluation_function(module), models.training_function(module)
    return Task(apply, train_apply, variables, found, parallel.mesh(), Views())


def image_shape(dataset: data.Dataset) -> jax.ShapeDtypeStruct:
    """Return one image, abstractly."""
    return jax.ShapeDtypeStruct((1, *dataset.test_images.shape[1:]), jnp.float32)


def say(row: report.Row) -> None:
    """Tell how accurate a network is."""
    CONSOLE.print(f"{row.name}: {row.accuracy:.2%} of {row.extra['count']} test images")


def scores_of(config: Config, graph: jc.Graph, task: Task, key: jax.Array) -> dict[str, Any]:
    """Score the channels of the groups that may be pruned."""
    groups = list(graph.groups) if config.streams else jc.graph.internal_groups(graph)
    functions = task.apply, task.train_apply
    source = source_of(graph, groups, functions, task.variables, task.dataset, task.views)
    return score(config.importance, source, jc.Budget(flops=config.flops), key)


def renew(config: Config, task: Task, train_apply: Any, variables: Any, key: jax.Array) -> Any:
    """Re-estimate BatchNorm statistics on training images."""
    batches = augmented(
        task.dataset,
        key,
        count=config.statistics_images,
        batch_size=config.batch_size,
        settings=task.views if config.augment_statistics else None,
    )
    # On one device: XLA's CPU backend can stall on the many small sums that devices would share.
    own = jax.device_put(variables, jax.devices()[0])
    return training.reestimate(train_apply, own, batches["image"], key)


def finish(config: Config, graph: jc.Graph, keep: Any, rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    report.table(rows)
    path = report.write_report(config.workdir, "prune", config, rows)
    picture = config.workdir / "prune.png"
    title = f"{config.model} at {config.flops:.0%} FLOPs by {config.importance}"
    plot_compression(picture, title, graph, keep, [row.to_json() for row in rows])
    CONSOLE.print(f"report: {path}\npicture: {picture}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
