"""SlimNets (Oguntola et al. 2018, arXiv:1808.00496): every row of its tables, then ours.

    python -m experiments.slimnets --preset smoke
    python -m experiments.slimnets --preset cpu --data-dir tensorflow_datasets --rows kd-nin
    python -m experiments.slimnets --preset paper --data-dir tensorflow_datasets --seeds 0 1 2
    python -m experiments.slimnets --preset published --data-dir tensorflow_datasets \
        --weights-dir weights

A row trains one network, saves it, loads it again and measures what was loaded. Rows that others
start from (the teacher, a student) are made first. A finished row is kept in the work folder and
skipped on the next run; delete its folder to repeat it. Rows: `experiments.slimnets_rows`; scales:
`experiments.slimnets_presets`. The table shows the paper's numbers beside ours.

Where this differs from the paper's code: images are normalised by the data set's statistics, for
pre-training and pruning alike (its notebook prunes with other ones than it pre-trained with);
thresholds are taken over a layer's kernel without its bias; students start as He et al. propose;
presets other than `paper` use recorded instead of online teacher logits, and `cpu` a one-cycle
rate, no dropout, and a teacher trained with batch norm, which is then folded into its
convolutions. FLOPs are multiply-accumulates x 2.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
import zlib  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import tyro  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, report, slimnets_table  # noqa: E402
from experiments.measure import count_nonzero  # noqa: E402
from experiments.slimnets_network import Made, Task, compressed, dense_params, start  # noqa: E402
from experiments.slimnets_presets import PRESETS, Preset, recipes_of  # noqa: E402
from experiments.slimnets_rows import Recipe, needed, with_starts  # noqa: E402
from experiments.slimnets_training import trained  # noqa: E402
from experiments.stage_files import differences, path_digest, read_object  # noqa: E402
from jaxcompress import parallel, training  # noqa: E402
from jaxcompress.artifact import Encoding, num_bytes  # noqa: E402
from jaxcompress.files import locked, write_json  # noqa: E402

__all__ = ["Config", "main"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs, and where.

    Attributes:
        preset: smoke: digits, seconds a row, to see that everything runs, at chance accuracy; cpu:
            a part of CIFAR-10 and networks of a quarter of the widths, minutes a row; paper: the
            paper's; published: our own rows, from the published weights of ResNet-20 and -56.
        rows: which rows, by name; none named: all.
        seeds: each row is made once per seed; the table shows mean and standard deviation.
        data_dir: folder of TFDS's prepared CIFAR-10; the smoke preset needs none.
        weights_dir: folder of `resnet20_cifar10.safetensors` and `resnet56_cifar10.safetensors`,
            for the preset `published`.
        workdir: where rows, artifacts and the report go.
        only_finished: make nothing, report the rows that are finished, over the seeds they have.
    """

    preset: Literal["smoke", "cpu", "paper", "published"] = "smoke"
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    workdir: Path = Path("runs/slimnets")
    only_finished: bool = False


def main(config: Config) -> list[report.Row]:
    """Make every row that is not finished, and return the rows of the report."""
    preset = PRESETS[config.preset]
    recipes = recipes_of(preset)
    names = with_starts(config.rows or tuple(recipes), recipes)
    dataset, mesh = load(preset, config.data_dir), parallel.mesh()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in config.seeds:
        folder = config.workdir / config.preset / f"seed{seed}"
        task = Task(preset, recipes, dataset, mesh, folder, seed, config.weights_dir)
        for name in names:
            row = finished(name, task) if config.only_finished else finished_or_made(name, task)
            found[name] += [] if row is None else [row]
    rows = slimnets_table.averaged(found, recipes, dense_params(task))
    scale = {"train_images": len(dataset.train_labels), "test_images": len(dataset.test_labels)}
    settings = {**dataclasses.asdict(config), **scale, "scale": settings_of(preset)}
    path = report.write_report(config.workdir / config.preset, "slimnets", settings, rows)
    slimnets_table.show(rows, path.with_suffix(".md"))
    slimnets_table.CONSOLE.print(f"report: {path}")
    return rows


def settings_of(preset: Preset) -> dict[str, Any]:
    """Return a preset as plain JSON."""
    fields = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
    return {**fields, "configs": {name: dict(own) for name, own in preset.configs.items()}}


def load(preset: Preset, data_dir: Path | None) -> data.Dataset:
    """Load the preset's data, its first training images only; digits are enlarged to 32x32."""
    full = data.load(preset.dataset, data_dir)
    count = preset.train_images or len(full.train_labels)
    train, test = full.train_images[:count], full.test_images
    if preset.dataset == "digits":
        train, test = (images.repeat(4, axis=1).repeat(4, axis=2) for images in (train, test))
    mean, std = preset.statistics or (full.mean, full.std)
    return dataclasses.replace(
        full,
        train_images=train,
        train_labels=full.train_labels[:count],
        test_images=test,
        mean=mean,
        std=std,
    )


def finished_or_made(name: str, task: Task) -> dict[str, Any]:
    """Return a row; while another process makes it, wait for that."""
    # Not the row's own folder: that is an artifact's, which has its own ways.
    folder = task.folder / "locks" / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=True):
        return finished(name, task) or make(name, task)


def finished(name: str, task: Task) -> dict[str, Any] | None:
    """Return what an earlier run measured of a row, if it finished.

    Raises:
        ValueError: if the row's file is damaged, or it was made by other code or of other inputs.
    """
    file = task.folder / name / "row.json"
    if not file.exists():
        return None
    remedy = f"delete {file.parent} to make the row again, or choose another workdir"
    row = read_object(file, remedy)
    inputs = row.get("inputs")
    offences = ["it names no inputs"]
    if isinstance(inputs, dict):
        offences = differences(inputs, inputs_of(name, task))
    offences += [f"it lacks {field}" for field in FIELDS if field not in row]
    if offences:
        raise ValueError(
            "rows of one folder are made by one code of the same inputs, but of "
            f"{file} {'; '.join(offences)}; {remedy}"
        )
    return row


FIELDS = ("seed", "accuracy", "num_params", "num_nonzero", "flops", "bytes", "cpu_seconds")


def inputs_of(name: str, task: Task) -> dict[str, Any]:
    """Return everything that decides a row but its seed, as JSON has it; files by their digests."""
    recipe = task.recipes[name]
    weights = None
    if recipe.published and task.weights is not None:
        weights = path_digest(task.weights / f"{recipe.network}_cifar10.safetensors")
    inputs = {
        "code": environment.code_digest(),
        "data": data.identity(task.dataset),
        "preset": settings_of(task.preset),
        "recipe": recipe._asdict(),
        "rows": {other: path_digest(task.folder / other) for other in needed(recipe)},
        "weights": weights,
    }
    return dict(json.loads(json.dumps(inputs, default=str)))


def make(name: str, task: Task) -> dict[str, Any]:
    """Make one row: start, compress, train, prune, save, load, measure."""
    recipe = task.recipes[name]
    slimnets_table.CONSOLE.print(f"[bold]{name}[/bold], seed {task.seed}")
    # Before the work: what changes while it runs is not what it was made of.
    inputs = inputs_of(name, task)
    # Of the name, so that a row's randomness does not depend on which others there are.
    key = jax.random.fold_in(jax.random.key(task.seed), zlib.crc32(name.encode()))
    # Not the wall clock: rows run side by side, and other work beside them.
    started = time.process_time()
    made = compressed(recipe, start(recipe, task, key), task, key)
    if recipe.trains:
        made = trained(recipe, made, task, key)
    seconds = time.process_time() - started
    row: dict[str, Any] = {
        "name": name,
        "seed": task.seed,
        **saved(recipe, made, task.folder / name, task),
        "cpu_seconds": seconds,
        "environment": environment.describe(),
        "inputs": inputs,
    }
    row = json.loads(json.dumps(row, default=float))
    write_json(task.folder / name / "row.json", row)
    slimnets_table.CONSOLE.print(
        f"    {row['accuracy']:.2%}, {row['num_nonzero']:,} non-zero, {row['bytes']:,} B, "
        f"{row['cpu_seconds']:.0f} CPU s"
    )
    return row


def saved(recipe: Recipe, made: Made, folder: Path, task: Task) -> dict[str, Any]:
    """Save a network, load it again, and measure what was loaded."""
    encoding = Encoding(recipe.values)
    jc.save(folder, made.compression, made.variables, network=made.network, encoding=encoding)
    apply, variables = jc.load(folder)
    graph = jc.trace(apply, variables, jax.ShapeDtypeStruct(task.image_shape, jnp.float32))
    found = training.evaluate(
        apply,
        variables,
        task.dataset.test_images,
        task.dataset.test_labels,
        batch_size=500,
        mesh=task.mesh,
        preprocess=data.preprocess(task.dataset),
    )
    return {
        "accuracy": found["accuracy"],
        "num_params": graph.params,
        "num_nonzero": count_nonzero(variables),
        "flops": graph.flops,
        "bytes": num_bytes(folder),
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
