"""What fixed knowledge is worth: every way to teach one pruned network, at equal epochs and seeds.

    python -m experiments.knowledge_ablation --data-dir tensorflow_datasets \\
        --weights resnet20_cifar10.safetensors

ResNet-20 on CIFAR-10 teaches the half of itself that learned gates leave. Written for a CPU: 2,048
training images, 8 epochs; `--config.train-images 0 --config.student-epochs 100` where there is an
accelerator. Each way and seed is a stage: interrupted, or run one by one with `--methods` and
`--seeds`, the experiment goes on where it was; `--finished` reports those that are done.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, get_args  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, limited_task, limited_work, report  # noqa: E402
from experiments.distill import Method  # noqa: E402
from experiments.lessons import Dense, kind_of, lesson  # noqa: E402
from experiments.limited_config import Config  # noqa: E402
from experiments.limited_resources import settings_of, spread_of  # noqa: E402
from experiments.limited_task import saved  # noqa: E402
from experiments.limited_work import Epochs  # noqa: E402
from experiments.stages import Stages  # noqa: E402
from jaxcompress import training  # noqa: E402

__all__ = ["Ablation", "main"]

CONSOLE = Console()

BASE = Config(
    network="resnet20",
    features="stage3_block2",
    before_features="stage3_block1",
    flops=0.5,
    streams=False,
    student_epochs=8,
    train_images=2048,
    statistics_images=2048,
    batch_size=64,
    workdir=Path("runs/knowledge_ablation"),
)


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What is compared.

    Attributes:
        data_dir: folder of TFDS's prepared data.
        weights: PyTorch state dict of the teacher, as safetensors.
        methods: ways to teach.
        seeds: of the order of the examples and of the assistant.
        finished: run nothing more, and report the ways and seeds that are done.
        config: everything else.
    """

    data_dir: Path | None = None
    weights: Path | None = None
    methods: tuple[Method, ...] = get_args(Method)
    seeds: tuple[int, ...] = (0, 1)
    finished: bool = False
    config: Config = BASE


class Arms:
    """The stages that all ways to teach share, and one stage for each way and seed."""

    def __init__(self, config: Config) -> None:
        """Make the teacher and the pruned network, where that is not done."""
        self.config, self.task = config, limited_task.prepare(config)
        self.stages = Stages(config.workdir, settings_of(config, self.task), CONSOLE)
        key = jax.random.key(config.seed)
        task = self.task
        make = limited_work.make_teacher
        self.stages.run("teacher", lambda: make(config, task, key), ["teacher"])
        self.variables = saved(config, "teacher", jax.eval_shape(task.initial, key))
        graph = jc.trace(task.apply, self.variables, limited_task.image_shape(task.dataset))
        choose = limited_work.choose
        self.stages.run(
            "gates", lambda: choose(config, task, graph, self.variables, key), ["keep.npz"]
        )
        self.dense = Dense(graph, limited_work.read_keep(config), self.variables)
        self.prune = jc.shrink(graph, self.dense.keep)
        shrink = limited_work.shrink
        self.stages.run(
            "shrink", lambda: shrink(config, task, self.prune, self.variables, key), ["pruned"]
        )
        small = jax.eval_shape(self.prune.variables, self.variables)
        self.small = saved(config, "pruned", small)

    def networks(self) -> list[dict[str, Any]]:
        """Measure the teacher and the network before it is taught."""
        plan = {
            "teacher": (self.task.apply, self.variables),
            "pruned": (self.prune.function(self.task.apply), self.small),
        }
        return [
            self.stages.run(
                f"measure-{name}",
                lambda a=apply, v=variables: self.measured(a, v),  # type: ignore[misc]
            )
            for name, (apply, variables) in plan.items()
        ]

    def arm(self, method: Method, seed: int) -> dict[str, Any]:
        """Teach the pruned network in one way with one seed."""
        config = dataclasses.replace(self.config, method=method)
        name = f"knowledge-{kind_of(method)}"
        if method not in ("none", "live", "bank"):
            record, key = limited_work.record, jax.random.key(0)
            self.stages.run(name, lambda: record(config, self.task, self.variables, key))
        return self.stages.run(f"{method}-{seed}", lambda: self.teach(config, seed))

    def done(self, method: Method, seed: int) -> bool:
        """Whether this stage has finished."""
        return self.stages.done(f"{method}-{seed}")

    def teach(self, config: Config, seed: int) -> dict[str, Any]:
        """Train one student and measure it."""
        key, begun = jax.random.key(1 + seed), time.process_time()
        taught = lesson(config, self.task, self.dense, self.small, key)
        prepared, ends = time.process_time() - begun, [time.process_time()]
        epochs = Epochs(f"{config.method}-{seed}", config.student_rate, config.student_epochs)
        note = lambda: ends.append(time.process_time())  # noqa: E731
        student = limited_work.fit(config, self.task, epochs, self.small, taught, key, note)
        return {
            **self.measured(self.prune.function(self.task.apply), student),
            "prepare_cpu_seconds": prepared,
            "epoch_cpu_seconds": float(np.median(np.diff(ends))),
        }

    def measured(self, apply: Any, variables: Any) -> dict[str, Any]:
        """Return accuracy on the test images and the variance over views, of test and training."""
        dataset = self.task.dataset
        found = training.evaluate(
            apply,
            variables,
            dataset.test_images,
            dataset.test_labels,
            batch_size=500,
            mesh=self.task.mesh,
            preprocess=data.preprocess(dataset),
        )
        row = {"accuracy": found["accuracy"], **spread_of(self.config, self.task, apply, variables)}
        train = spread_of(self.config, self.task, apply, variables, dataset.train_images)
        return {**row, **{f"train_{name}": value for name, value in train.items()}}


def main(ablation: Ablation) -> list[report.Row]:
    """Run the arms that are not done; print and write the table of all that were asked for."""
    config = dataclasses.replace(
        ablation.config, data_dir=ablation.data_dir, weights=ablation.weights
    )
    arms = Arms(config)
    with arms.stages:
        return compare(ablation, arms)


def compare(ablation: Ablation, arms: Arms) -> list[report.Row]:
    """Run the arms that were asked for, and write their table."""
    teacher, pruned = arms.networks()
    rows = [row_of("teacher", [teacher]), row_of("pruned", [pruned])]
    found: dict[Method, list[dict[str, Any]]] = {method: [] for method in ablation.methods}
    # All ways with one seed before the next: stopped early, the comparison is whole.
    for seed in ablation.seeds:
        for method in ablation.methods:
            if arms.done(method, seed) or not ablation.finished:
                found[method].append(arms.arm(method, seed))
    rows += [row_of(method, own) for method, own in found.items() if own]
    for row in rows:
        values = ", ".join(f"{name} {value:.4f}" for name, value in row.extra.items())
        CONSOLE.print(f"{row.name}: {row.accuracy:.2%}, {values}", soft_wrap=True)
    report.write_report(arms.config.workdir, "knowledge_ablation", ablation, rows)
    return rows


NUMBERS = (
    "view_variance",
    "view_ratio",
    "train_view_variance",
    "train_view_ratio",
    "prepare_cpu_seconds",
    "epoch_cpu_seconds",
)


def row_of(name: str, found: list[dict[str, Any]]) -> report.Row:
    """Return the mean over seeds, and what each seed gave for the accuracy."""
    accuracies = [own["accuracy"] for own in found]
    known = [number for number in NUMBERS if number in found[0]]
    extra: dict[str, Any] = {n: float(np.mean([own[n] for own in found])) for n in known}
    if len(found) > 1:
        extra["accuracy_std"] = float(np.std(accuracies, ddof=1))
    extra |= {f"accuracy_{i}": accuracy for i, accuracy in enumerate(accuracies)}
    return report.Row(name, accuracy=float(np.mean(accuracies)), extra=extra)


if __name__ == "__main__":
    main(tyro.cli(Ablation, description=__doc__))
