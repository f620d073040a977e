"""SlimNets (Oguntola et al. 2018, arXiv:1808.00496): every row of its tables, then ours.

    python -m experiments.slimnets --preset smoke
    python -m experiments.slimnets --preset cpu --data-dir tensorflow_datasets --rows kd-nin
    python -m experiments.slimnets --preset paper --data-dir tensorflow_datasets --seeds 0 1 2

A row trains one network, saves it, loads it again and measures what was loaded. Rows that others
start from (the teacher, a student) are made first. A finished row is kept in the work folder and
skipped on the next run; delete its folder to repeat it.

Where this differs from the paper's code: images are normalised by the data set's statistics, for
pre-training and pruning alike (its notebook prunes with other ones than it pre-trained with);
thresholds are taken over a layer's kernel without its bias; students start as He et al. propose;
presets other than `paper` use recorded instead of online teacher logits. FLOPs are
multiply-accumulates x 2.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
import zlib  # noqa: E402
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal, NamedTuple  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import tyro  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, loop, report  # noqa: E402
from experiments.measure import Measure, augmented  # noqa: E402
from experiments.slimnets_rows import PRESETS, RECIPES, Preset, Recipe, with_starts  # noqa: E402
from jaxcompress import models, parallel  # noqa: E402
from jaxcompress.artifact import Encoding, inspect  # noqa: E402
from jaxcompress.importance.meta import meta  # noqa: E402
from jaxcompress.knowledge.losses import cross_entropy, kd  # noqa: E402
from jaxcompress.knowledge.views import Views  # noqa: E402
from jaxcompress.search import masks  # noqa: E402
from jaxcompress.search.schedule import Schedule, cubic, one_shot  # noqa: E402
from jaxcompress.transforms import sparsify  # noqa: E402

__all__ = ["Config", "main"]

TEMPERATURE, ALPHA = 20.0, 0.7
CONSOLE = Console()


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs, and where.

    Attributes:
        preset: smoke: digits, seconds a row, to see that everything runs, at chance accuracy; cpu:
            a subset of CIFAR-10 and narrower networks; paper: the paper's.
        rows: which rows, by name; none named: all.
        seeds: each row is made once per seed; the table shows mean and standard deviation.
        data_dir: folder of TFDS's prepared CIFAR-10; the smoke preset needs none.
        workdir: where rows, artifacts and the report go.
    """

    preset: Literal["smoke", "cpu", "paper"] = "smoke"
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    data_dir: Path | None = None
    workdir: Path = Path("runs/slimnets")


class Task(NamedTuple):
    """What the rows of one seed share."""

    preset: Preset
    dataset: data.Dataset
    mesh: Any
    folder: Path
    seed: int


class Made(NamedTuple):
    """A network: its functions, its variables, and how it came from the one called `network`."""

    network: tuple[str, Mapping[str, Any]]
    apply: Callable[..., Any]
    train_apply: Callable[..., Any]
    variables: Any
    compression: jc.Compression


def main(config: Config) -> list[report.Row]:
    """Make every row that is not finished, and return the rows of the report."""
    names = with_starts(config.rows or tuple(RECIPES))
    preset = PRESETS[config.preset]
    dataset, mesh = load(preset, config.data_dir), parallel.mesh()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in config.seeds:
        folder = config.workdir / config.preset / f"seed{seed}"
        task = Task(preset, dataset, mesh, folder, seed)
        for name in names:
            found[name].append(finished(name, task) or make(name, task))
    dense = dense_params(dataset, preset)
    rows = [averaged(name, found[name], dense) for name in names]
    show(rows)
    path = report.write_report(config.workdir / config.preset, "slimnets", config, rows)
    CONSOLE.print(f"report: {path}")
    return rows


def load(preset: Preset, data_dir: Path | None) -> data.Dataset:
    """Load the preset's data, its first training images only; digits are enlarged to 32x32."""
    full = data.load(preset.dataset, data_dir)
    count = preset.train_images or len(full.train_labels)
    train, test = full.train_images[:count], full.test_images
    if preset.dataset == "digits":
        train, test = (images.repeat(4, axis=1).repeat(4, axis=2) for images in (train, test))
    return dataclasses.replace(
        full, train_images=train, train_labels=full.train_labels[:count], test_images=test
    )


def finished(name: str, task: Task) -> dict[str, Any] | None:
    """Return what an earlier run measured of a row, if it finished."""
    file = task.folder / name / "row.json"
    return json.loads(file.read_text()) if file.exists() else None


def make(name: str, task: Task) -> dict[str, Any]:
    """Make one row: start, compress, train, prune, save, load, measure."""
    recipe, started = RECIPES[name], time.perf_counter()
    CONSOLE.print(f"[bold]{name}[/bold], seed {task.seed}")
    # Of the name, so that a row's randomness does not depend on which others there are.
    key = jax.random.fold_in(jax.random.key(task.seed), zlib.crc32(name.encode()))
    made = compressed(recipe, start(recipe, task, key), task, key)
    made = trained(recipe, made, task, key)
    seconds = time.perf_counter() - started
    folder = task.folder / name
    encoding = Encoding(recipe.values)
    jc.save(folder, made.compression, made.variables, network=made.network, encoding=encoding)
    apply, variables = jc.load(folder)
    measure = Measure(task.dataset, task.mesh, task.folder, made.network)
    row = measure(name, apply, variables, made.compression, seconds).to_json()
    row["bytes"] = inspect(folder)["bytes"]
    (folder / "row.json").write_text(json.dumps(row, default=float))
    CONSOLE.print(f"    {row['accuracy']:.2%}, {row['num_nonzero']:,} non-zero, {row['bytes']:,} B")
    return row


def start(recipe: Recipe, task: Task, key: jax.Array) -> Made:
    """Build the row's network: fresh, or as the row that it starts from left it."""
    config = {**task.preset.widths.get(recipe.network, {}), "num_classes": task.dataset.num_classes}
    module = models.build(recipe.network, **config)
    apply, train_apply = models.evaluation(module), models.training(module)
    if recipe.start is None:
        shape = (1, *task.dataset.train_images.shape[1:])
        variables = models.initialize(module, key, shape)
    else:
        _, variables = jc.load(task.folder / recipe.start)
    return Made((recipe.network, config), apply, train_apply, variables, jc.chain())


def compressed(recipe: Recipe, made: Made, task: Task, key: jax.Array) -> Made:
    """Remove channels by meta-learned gates, or decompose convolutions, as the recipe says."""
    if recipe.flops is None and not recipe.ranks:
        return made
    one = jax.ShapeDtypeStruct((1, *task.dataset.train_images.shape[1:]), jnp.float32)
    graph = jc.trace(made.apply, made.variables, one)
    if recipe.flops is not None:
        scores = jc.search.per_cost(graph, gate_scores(graph, made, task, key))
        change = jc.shrink(graph, jc.select(graph, scores, jc.Budget(flops=recipe.flops)))
    else:
        change = factorization(graph, recipe.ranks, made.network[1].get("width", 64) / 64)
    return Made(
        made.network,
        change.function(made.apply),
        change.function(made.train_apply),
        change.variables(made.variables),
        jc.chain(made.compression, change),
    )


def gate_scores(graph: jc.Graph, made: Made, task: Task, key: jax.Array) -> dict[str, Any]:
    """Score channels by the query loss through two inner steps, over a few episodes."""
    episodes, steps, size = task.preset.episodes, 2, 32
    count = episodes * (steps + 1) * size
    batches = augmented(task.dataset, key, count=count, batch_size=size, settings=views_of(task))
    grouped = jax.tree.map(lambda x: x.reshape(episodes, steps + 1, *x.shape[1:]), batches)
    support = jax.tree.map(lambda x: x[:, :steps], grouped)
    query = jax.tree.map(lambda x: x[:, steps], grouped)

    def loss(variables: Any, batch: Any) -> jax.Array:
        return cross_entropy(made.apply(variables, batch["image"]), batch["label"]).mean()

    return meta(graph, loss, made.variables, support, query)


def factorization(graph: jc.Graph, ranks: Sequence[int], width: float) -> jc.Compression:
    """Decompose the convolutions, in order, to these ranks times the relative width."""
    paths = [path for path in graph.sites if len(graph.leaves[path].shape) == 4]
    wanted = {p: max(1, round(r * width)) for p, r in zip(paths, ranks, strict=True)}
    return jc.factorize(graph, wanted, {path: "spatial" for path in paths})


def views_of(task: Task) -> Views:
    """Return the augmentation: digits must not be mirrored."""
    return Views(pad=4, flip=task.preset.dataset != "digits")


def trained(recipe: Recipe, made: Made, task: Task, key: jax.Array) -> Made:
    """Train under masks if the recipe prunes, with the teacher if it distils."""
    preset = task.preset
    is_pruning = recipe.sparsity is not None and not recipe.distils
    epochs = preset.prune_epochs if is_pruning else preset.epochs
    batch_size = preset.prune_batch_size if is_pruning else preset.batch_size
    steps = epochs * (len(task.dataset.train_labels) // batch_size)
    tx = optimizer(recipe, preset, steps)
    if recipe.sparsity is not None:
        tx = masks.sparse(tx, schedule_of(recipe, steps))
    teacher = (
        start(RECIPES["teacher"]._replace(start="teacher"), task, key) if recipe.distils else None
    )
    student_loss, variables, extra = objective(made, teacher, task)
    found = loop.train(
        student_loss,
        tx,
        variables,
        task.dataset,
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        mesh=task.mesh,
        views=None if is_pruning else views_of(task),
        extra=extra,
        trainable=lambda path, leaf: path.startswith("student/params/"),
    )
    # Where the loop's devices share arrays, artifacts and measurements want them on one.
    variables = jax.device_put(found.state.variables["student"], jax.devices()[0])
    if recipe.sparsity is None:
        return made._replace(variables=variables)
    kept = masks.masks_of(found.state.opt_state)
    own = {path.removeprefix("student/"): np.asarray(mask) for path, mask in kept.items()}
    pruned = sparsify(variables, own)
    chained = jc.chain(made.compression, pruned)
    return made._replace(variables=pruned.variables(variables), compression=chained)


def optimizer(recipe: Recipe, preset: Preset, steps: int) -> optax.GradientTransformation:
    """SGD with momentum: constant and without decay to prune, halved ten times to train."""
    if recipe.sparsity is not None and not recipe.distils:
        return optax.sgd(preset.prune_rate, momentum=0.9)
    halvings = {steps * part // 10: 0.5 for part in range(1, 10)}
    rate = optax.piecewise_constant_schedule(recipe.rate, halvings)
    return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9))


def schedule_of(recipe: Recipe, steps: int) -> Schedule:
    """At once, or by Zhu and Gupta's cubic in 100 events over the first half of training."""
    assert recipe.sparsity is not None
    if not recipe.gradual:
        return one_shot(recipe.sparsity)
    events = min(100, max(steps // 2, 1))
    every = max(steps // 2 // events, 1)
    return cubic(recipe.sparsity, begin=0, end=every * events, every=every)


def objective(
    made: Made, teacher: Made | None, task: Task
) -> tuple[Any, Any, dict[str, Any] | None]:
    """Return loss, variables and extra arrays for the loop.

    With a teacher, per example, alpha (2 / classes) KD + (1 - alpha) CE, where KD includes T^2.
    The paper's code writes KLDiv * (T^2 2 alpha), but PyTorch's KLDivLoss of its time averaged over
    batch and classes alike: that is the division by the number of classes here.
    """
    variables = {"student": made.variables}
    extra = None
    if teacher is not None and task.preset.online:
        variables["teacher"] = teacher.variables
    elif teacher is not None:
        extra = {"logits": stored_logits(teacher, task.dataset)}

    def loss(own: Any, batch: Any, key: jax.Array) -> Any:
        logits, state = made.train_apply(own["student"], batch["image"], key)
        value = cross_entropy(logits, batch["label"])
        if teacher is not None:
            target = batch.get("logits")
            if target is None:
                target = teacher.apply(own["teacher"], batch["image"])
            weight = 2 * ALPHA / task.dataset.num_classes
            value = weight * kd(logits, target, TEMPERATURE) + (1 - ALPHA) * value
        return value.mean(), ({"student": state} if state else {}, {})

    return loss, variables, extra


def stored_logits(teacher: Made, dataset: data.Dataset) -> np.ndarray:
    """Return the teacher's logits of all training images, without augmentation."""
    preprocess = data.preprocess(dataset)
    logits = jax.jit(lambda variables, images: teacher.apply(variables, preprocess(images)))
    parts = np.array_split(dataset.train_images, max(len(dataset.train_images) // 500, 1))
    return np.concatenate([logits(teacher.variables, part) for part in parts])


def dense_params(dataset: data.Dataset, preset: Preset) -> int:
    """Count the parameters of the preset's teacher, to which all ratios are: 20,554,826 at full."""
    name = RECIPES["teacher"].network
    module = models.build(name, **preset.widths.get(name, {}), num_classes=dataset.num_classes)
    shape = (1, *dataset.train_images.shape[1:])
    shapes = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), shape))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def averaged(name: str, found: Sequence[Mapping[str, Any]], dense: int) -> report.Row:
    """Average a row over seeds; sizes are those of the first."""
    accuracies = [row["accuracy"] for row in found]
    first, recipe = found[0], RECIPES[name]
    return report.Row(
        name=name,
        accuracy=statistics.mean(accuracies),
        seconds=statistics.mean(row["seconds"] for row in found),
        **{k: first[k] for k in ("num_params", "num_nonzero", "flops", "bytes", "latency_ms")},
        extra={
            "accuracy_std": statistics.stdev(accuracies) if len(found) > 1 else None,
            "seeds": len(found),
            "paper_accuracy": recipe.paper,
            "fewer_params": dense / first["num_nonzero"],
            "fewer_bytes": 4 * dense / first["bytes"],
        },
    )


def show(rows: Sequence[report.Row]) -> None:
    """Print the paper's accuracies beside ours; ratios are to the preset's VGG-19 in float32."""
    grid = Table("row", "paper", "ours", "params", "non-zero", "x", "bytes", "x", box=box.SIMPLE)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in rows:
        extra = row.extra
        deviation = extra["accuracy_std"]
        ours = f"{row.accuracy:.2%}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        paper = "-" if extra["paper_accuracy"] is None else f"{extra['paper_accuracy']:.2%}"
        sizes = (f"{row.num_params:,}", f"{row.num_nonzero:,}", f"{extra['fewer_params']:.1f}")
        grid.add_row(row.name, paper, ours, *sizes, f"{row.bytes:,}", f"{extra['fewer_bytes']:.1f}")
    CONSOLE.print(grid, width=None if CONSOLE.is_terminal else 110)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
