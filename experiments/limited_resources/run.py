"""Compress a network on limited resources: the teacher runs once, gates are learned, and fixed
knowledge teaches the pruned network through a synthetic teacher assistant.

    python -m experiments.limited_resources digits
    python -m experiments.limited_resources cifar10_resnet56 --data-dir tensorflow_datasets \\
        --weights resnet56_cifar10.safetensors
    python -m experiments.limited_resources imagenet_resnet50    # projected device-hours only

Stages: teacher, knowledge, gates, shrink, fine-tune. Interrupted, it goes on where it was. The
assistant is the crossed one, the best of those in `results/knowledge_ablation_cpu.json`. After
"Compressing Neural Networks on Limited Computing Resources" (IEEE Access 2025); of its method only
the abstract is public, and gates and assistant are our reconstruction.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import json  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, limited_task, limited_work, projection, report  # noqa: E402
from experiments.lessons import Dense, kind_of  # noqa: E402
from experiments.limited_config import PRESETS, Config  # noqa: E402
from experiments.limited_task import Task, saved  # noqa: E402
from experiments.measure import Measure  # noqa: E402
from experiments.stages import Stages  # noqa: E402
from jaxcompress import knowledge  # noqa: E402
from jaxcompress.files import file_digest  # noqa: E402
from jaxcompress.report import plot_compression  # noqa: E402

__all__ = ["main"]

CONSOLE = Console()


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    if config.project:
        return projection.project(config, CONSOLE)
    task = limited_task.prepare(config)
    with Stages(config.workdir, settings_of(config, task), CONSOLE) as stages:
        return run_all(config, task, stages)


def run_all(config: Config, task: Task, stages: Stages) -> list[report.Row]:
    """Run the stages, measure what they made, and write the report."""
    keys = dict(zip(STAGES, jax.random.split(jax.random.key(config.seed), 5), strict=True))
    found: dict[str, dict[str, Any]] = {}

    def run(name: str, work: Any, *args: Any, files: Sequence[str] = (), suffix: str = "") -> None:
        do = lambda: work(config, task, *args, keys[name])  # noqa: E731
        found[name] = stages.run(name + suffix, do, files)

    run("teacher", limited_work.make_teacher, files=["teacher"])
    variables = saved(config, "teacher", jax.eval_shape(task.initial, keys["teacher"]))
    run("knowledge", limited_work.record, variables, suffix=f"-{kind_of(config.method)}")
    graph = jc.trace(task.apply, variables, limited_task.image_shape(task.dataset))
    run("gates", limited_work.choose, graph, variables, files=["keep.npz"])
    keep = limited_work.read_keep(config)
    prune = jc.shrink(graph, keep)
    run("shrink", limited_work.shrink, prune, variables, files=["pruned"])
    small = saved(config, "pruned", jax.eval_shape(prune.variables, variables))
    dense = Dense(graph, keep, variables)
    taught = f"student-{config.method}"
    run(
        "fine-tune",
        limited_work.finetune,
        dense,
        small,
        files=[taught],
        suffix=f"-{config.method}",
    )
    student = saved(config, taught, small)

    networks = {"teacher": variables, "pruned": small, "student": student}
    rows = measure_all(config, task, prune, networks, found)
    finish(config, graph, keep, rows, found)
    return rows


STAGES = ("teacher", "knowledge", "gates", "shrink", "fine-tune")


def settings_of(config: Config, task: Task) -> dict[str, Any]:
    """Return the settings that all stages of one folder share.

    Paths may move, but what lies there may not change. Ways to teach share the stages before: each
    has its own last stage.
    """
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    for name in ("workdir", "data_dir", "method"):
        del settings[name]
    weights = None if config.weights is None else file_digest(config.weights)
    return {**settings, "weights": weights, "data": data.identity(task.dataset)}


def outputs_of(config: Config) -> Path:
    """Return where artifacts, report and picture go: ways to teach have a folder each."""
    return config.workdir / config.method


def measure_all(
    config: Config,
    task: Task,
    prune: jc.Compression,
    networks: dict[str, Any],
    found: dict[str, dict[str, Any]],
) -> list[report.Row]:
    """Measure the teacher, the pruned network and the student; the artifacts are saved here."""
    network = (
        config.network,
        {"num_classes": task.dataset.num_classes, **config.network_config},
    )
    measure = Measure(task.dataset, task.mesh, outputs_of(config) / "artifacts", network)
    small = prune.function(task.apply)
    seconds = {name: facts["seconds"] for name, facts in found.items()}
    plan = {
        "teacher": (task.apply, networks["teacher"], jc.chain(), seconds["teacher"]),
        "pruned": (small, networks["pruned"], prune, seconds["gates"] + seconds["shrink"]),
        "student": (small, networks["student"], prune, seconds["knowledge"] + seconds["fine-tune"]),
    }
    rows = []
    for name, (apply, variables, compression, taken) in plan.items():
        collapse = spread_of(config, task, apply, variables)
        row = measure(name, apply, variables, compression, taken, folder=name, **collapse)
        rows.append(row)
    return rows


def spread_of(
    config: Config, task: Task, apply: Any, variables: Any, images: Any = None
) -> dict[str, float]:
    """Measure how logits vary over 8 views of 256 images: the collapse to be prevented.

    Test images by default; of training images these are views that training did not show.
    """
    images = (task.dataset.test_images if images is None else images)[:256]
    examples = np.arange(len(images))

    @jax.jit
    def logits(variables: Any, index: jax.Array) -> jax.Array:
        drawn = knowledge.views(jax.random.key(1), examples, index, images, settings=config.views)
        return apply(variables, data.preprocess(task.dataset)(drawn))

    found = knowledge.spread(jnp.stack([logits(variables, jnp.int32(v)) for v in range(8)]))
    return {"view_variance": float(found.views), "view_ratio": float(found.ratio)}


def finish(
    config: Config,
    graph: jc.Graph,
    keep: dict[str, np.ndarray],
    rows: list[report.Row],
    found: dict[str, dict[str, Any]],
) -> None:
    """Print the tables; write the report and the picture."""
    report.table(rows)
    for row in rows:
        CONSOLE.print(
            f"{row.name}: variance over views {row.extra['view_variance']:.3f}, "
            f"{row.extra['view_ratio']:.3f} of that over images"
        )
    for name, facts in found.items():
        CONSOLE.print(
            f"{name}: {facts['seconds']:.0f} s, {facts['cpu_seconds']:.0f} s of CPU, "
            f"{facts['device_hours']:.4f} device-hours"
        )
    total = sum(facts["device_hours"] for facts in found.values())
    CONSOLE.print(f"all stages: {total:.4f} device-hours")
    settings = {**dataclasses.asdict(config), "stages": found}
    path = report.write_report(outputs_of(config), "limited_resources", settings, rows)
    picture = outputs_of(config) / "limited_resources.png"
    title = f"{config.network} at {config.flops:.0%} FLOPs, taught by {config.method}"
    plot_compression(picture, title, graph, keep, [row.to_json() for row in rows])
    CONSOLE.print(f"report: {path}\npicture: {picture}")


if __name__ == "__main__":
    main(tyro.extras.overridable_config_cli(PRESETS))
