"""Compress a network on limited resources: the teacher runs once, gates are learned, and fixed
knowledge teaches the pruned network through a synthetic teacher assistant.

    python -m experiments.limited_resources digits
    python -m experiments.limited_resources cifar10_resnet56 --data-dir tensorflow_datasets \\
        --weights resnet56_cifar10.safetensors
    python -m experiments.limited_resources imagenet_resnet50    # projected device-hours only

Stages: teacher, knowledge, gates, shrink, fine-tune. Interrupted, it goes on where it was. After
"Compressing Neural Networks on Limited Computing Resources" (IEEE Access 2025); of its method only
the abstract is public, and gates and assistant are our reconstruction.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import data, loop, projection, report  # noqa: E402
from experiments.distill import (  # noqa: E402
    Method,
    Teaching,
    featured_training,
    teaching_loss,
    trainable,
)
from experiments.interim import bank_logits  # noqa: E402
from experiments.measure import Measure, augmented  # noqa: E402
from experiments.score import Importance, Source, score  # noqa: E402
from experiments.stages import Stages  # noqa: E402
from jaxcompress import knowledge, models, parallel, training  # noqa: E402
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights  # noqa: E402
from jaxcompress.knowledge import Views, cross_entropy, store  # noqa: E402
from jaxcompress.report import plot_compression  # noqa: E402

__all__ = ["PRESETS", "Config", "main"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONSOLE = Console()


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compressed, and how.

    Attributes:
        network: its name.
        network_config: fields of the network that its name leaves open.
        features: the submodule whose output, averaged over the image, is stored and taught.
        dataset: its name.
        data_dir: folder of TFDS's prepared data.
        weights: PyTorch state dict of the teacher, as safetensors; None to train one.
        flops: largest fraction of the FLOPs that may remain.
        streams: prune residual streams too, not only the widths inside blocks.
        importance: how channels are scored.
        method: how the student is taught.
        views: augmentation of training.
        teacher_epochs: passes over the training images, where the teacher is trained.
        student_epochs: passes while fine-tuning.
        teacher_rate: learning rate of the teacher.
        student_rate: learning rate of fine-tuning.
        batch_size: images per step.
        train_images: how many training images are used; 0 for all.
        statistics_images: training images that BatchNorm statistics are re-estimated on.
        temperature: of distillation.
        seed: of everything random.
        project: only project the device-hours, on random images of this size; 0 to run.
        workdir: where everything is written.
    """

    network: str = "resnet56"
    network_config: dict[str, int] = dataclasses.field(default_factory=dict)
    features: str = "stage3_block8"
    dataset: str = "cifar10"
    data_dir: Path | None = None
    weights: Path | None = None
    flops: float = 0.45
    streams: bool = True
    importance: Importance = "learned"
    method: Method = "assistant"
    views: Views = Views()
    teacher_epochs: int = 200
    student_epochs: int = 100
    teacher_rate: float = 0.1
    student_rate: float = 0.02
    batch_size: int = 128
    train_images: int = 0
    statistics_images: int = 4096
    temperature: float = 4.0
    seed: int = 0
    project: int = 0
    workdir: Path = Path("runs/limited_resources")


PRESETS = {
    "digits": (
        "ResNet-20 on scikit-learn's digits, minutes on a CPU",
        Config(
            network="resnet20",
            features="stage3_block2",
            dataset="digits",
            flops=0.5,
            views=Views(pad=1, flip=False),
            teacher_epochs=20,
            student_epochs=10,
            statistics_images=1408,
        ),
    ),
    "cifar10_resnet56": ("55 % of ResNet-56's FLOPs removed, as EKG", Config()),
    "cifar10_mobilenet_v2": (
        "55 % of MobileNetV2's FLOPs removed",
        Config(
            network="mobilenet_v2",
            network_config={"stem_stride": 1, "stage2_stride": 1},
            features="stage7_block0",
        ),
    ),
    "imagenet_resnet50": (
        "55.2 % of ResNet-50's FLOPs removed: projected device-hours",
        Config(
            network="resnet50",
            features="stage4_block2",
            dataset="imagenet2012",
            flops=0.448,
            project=224,
            student_epochs=100,
            batch_size=64,
        ),
    ),
}


class Task(NamedTuple):
    """The network at hand, its data and its devices."""

    apply: Callable[..., Any]
    train: Callable[..., Any]
    featured: Callable[..., Any]
    teacher: store.Teacher
    initial: Callable[[jax.Array], Any]
    dataset: data.Dataset
    source: knowledge.Source
    mesh: Any


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    if config.project:
        return projection.project(config, CONSOLE)
    task = prepare(config)
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    # Paths may move, and ways to teach share the stages before: each has its own last stage.
    for name in ("workdir", "data_dir", "weights", "method"):
        del settings[name]
    stages = Stages(config.workdir, settings, CONSOLE)
    keys = dict(zip(STAGES, jax.random.split(jax.random.key(config.seed), 5), strict=True))
    found: dict[str, dict[str, Any]] = {}

    found["teacher"] = stages.run("teacher", lambda: make_teacher(config, task, keys["teacher"]))
    variables = saved(config, "teacher", jax.eval_shape(task.initial, keys["teacher"]))
    found["knowledge"] = stages.run("knowledge", lambda: record(config, task, variables))
    graph = jc.trace(task.apply, variables, image_shape(task.dataset))
    found["gates"] = stages.run(
        "gates", lambda: choose(config, task, graph, variables, keys["gates"])
    )
    keep = read_keep(config)
    prune = jc.shrink(graph, keep)
    found["shrink"] = stages.run(
        "shrink", lambda: shrink(config, task, prune, variables, keys["shrink"])
    )
    small = saved(config, "pruned", jax.eval_shape(prune.variables, variables))
    found["fine-tune"] = stages.run(
        f"fine-tune-{config.method}",
        lambda: finetune(config, task, graph, keep, variables, small, keys["fine-tune"]),
    )
    student = saved(config, f"student-{config.method}", small)
    rows = measure_all(config, task, prune, {"teacher": variables, "pruned": small}, student, found)
    finish(config, graph, keep, rows, found)
    return rows


STAGES = ("teacher", "knowledge", "gates", "shrink", "fine-tune")


def prepare(config: Config) -> Task:
    """Load the data and build the functions."""
    dataset = data.load(config.dataset, config.data_dir)
    if config.weights is not None:
        dataset = dataclasses.replace(dataset, mean=IMAGENET[0], std=IMAGENET[1])
    count = config.train_images or len(dataset.train_labels)
    dataset = dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:count],
        train_labels=dataset.train_labels[:count],
    )
    module = models.build(config.network, num_classes=dataset.num_classes, **config.network_config)
    shape = (1, *dataset.test_images.shape[1:])
    inner = store.intermediates(
        module, [config.features], preprocess=data.preprocess(dataset), train=False
    )

    def teacher(variables: Any, images: Any) -> dict[str, jax.Array]:
        outputs = inner(variables, images)
        pooled = outputs[config.features].mean(axis=(1, 2))
        return {"logits": outputs["logits"], "features": pooled}

    images = dataset.train_images
    return Task(
        models.evaluation(module),
        models.training(module),
        featured_training(module, config.features),
        teacher,
        lambda key: models.initialize(module, key, shape),
        dataset,
        knowledge.Source(images, len(images), knowledge.fingerprint(images), jax.random.key(0)),
        parallel.mesh(),
    )


def image_shape(dataset: data.Dataset) -> jax.ShapeDtypeStruct:
    """Return one image, abstractly."""
    return jax.ShapeDtypeStruct((1, *dataset.test_images.shape[1:]), jnp.float32)


def saved(config: Config, name: str, like: Any) -> Any:
    """Read the variables that a stage saved."""
    return training.restore(config.workdir / name, like)


def save(config: Config, name: str, variables: Any) -> None:
    """Save the variables of a stage."""
    training.save(config.workdir / name, variables, overwrite=True)


def make_teacher(config: Config, task: Task, key: jax.Array) -> dict[str, Any]:
    """Load the teacher's weights, or train it by cross-entropy."""
    if config.weights is not None:
        like = jax.eval_shape(task.initial, key)
        variables = load_torch_weights(config.weights, like, akamaster_resnet_name)
    else:
        student = {"student": task.initial(key), "assistant": {}}
        loss = teaching_loss(task.featured, Teaching("none"))
        rate, epochs = config.teacher_rate, config.teacher_epochs
        variables = fit(config, task, "teacher", loss, student, key, rate, epochs, {})["student"]
    save(config, "teacher", variables)
    return {}


def fit(
    config: Config,
    task: Task,
    name: str,
    loss: training.Loss,
    variables: Any,
    key: jax.Array,
    rate: float,
    epochs: int,
    extra: dict[str, Any],
) -> Any:
    """Train, keeping the state of the last whole epoch; go on from it where there is one."""
    steps = epochs * (len(task.dataset.train_labels) // config.batch_size)
    tx = optax.chain(
        optax.add_decayed_weights(5e-4),
        optax.sgd(optax.cosine_decay_schedule(rate, steps), momentum=0.9, nesterov=True),
    )
    folder = config.workdir / f"{name}-state"
    state = training.init_state(variables, tx, trainable=trainable)
    if folder.exists():
        state = training.restore(folder, like=state)

    def keep_state(state: training.TrainState) -> dict[str, float]:
        training.save(folder, state, overwrite=True)
        return {}

    trained = loop.train(
        loss,
        tx,
        variables,
        task.dataset,
        epochs=epochs,
        batch_size=config.batch_size,
        key=key,
        mesh=task.mesh,
        views=config.views,
        extra=extra,
        trainable=trainable,
        state=state,
        on_epoch=keep_state,
    )
    return jax.device_get(trained.state.variables)


def record(config: Config, task: Task, variables: Any) -> dict[str, Any]:
    """Store the teacher's logits and features of the images without augmentation, once."""
    folder = config.workdir / "knowledge"
    about = {"mean": list(task.dataset.mean), "std": list(task.dataset.std)}
    last: list[store.Progress] = []
    manifest = store.write(
        folder, task.teacher, variables, task.source, about=about, on_progress=last.append
    )
    opened = store.open_store(folder, variables=variables, source=task.source, about=about)
    checked = store.verify(opened, task.teacher, variables, task.source)
    return {
        "bytes": store.num_bytes(manifest),
        "bytes_on_disk": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "examples": manifest.examples,
        "largest_difference": checked.largest,
    }


def choose(
    config: Config, task: Task, graph: jc.Graph, variables: Any, key: jax.Array
) -> dict[str, Any]:
    """Score channels and select those that stay."""

    def batches(own: jax.Array, number: int, size: int) -> Any:
        drawn = partial(augmented, task.dataset, own, batch_size=size, settings=config.views)
        return drawn(count=number * size)

    def loss(own: Any, batch: Any) -> jax.Array:
        logits, _ = task.train(own, batch["image"], key)
        return cross_entropy(logits, batch["label"]).mean()

    groups = list(graph.groups) if config.streams else jc.search.internal_groups(graph)
    budget = jc.Budget(flops=config.flops)
    source = Source(graph, loss, variables, batches, groups)
    keep = jc.select(graph, score(config.importance, source, budget, key), budget)
    arrays: dict[str, Any] = {name: np.asarray(own) for name, own in keep.items()}
    np.savez(config.workdir / "keep.npz", **arrays)
    return {"kept": int(sum(own.sum() for own in keep.values()))}


def read_keep(config: Config) -> dict[str, np.ndarray]:
    """Read what `choose` selected."""
    with np.load(config.workdir / "keep.npz") as arrays:
        return dict(arrays)


def shrink(
    config: Config, task: Task, prune: jc.Compression, variables: Any, key: jax.Array
) -> dict[str, Any]:
    """Remove the channels and re-estimate BatchNorm statistics."""
    small = parallel.replicate(prune.variables(variables), task.mesh)
    batches = augmented(
        task.dataset,
        key,
        count=config.statistics_images,
        batch_size=config.batch_size,
        settings=config.views,
    )
    images = jax.device_put(batches["image"], parallel.batch_sharding(task.mesh, axis=1))
    small = training.reestimate(prune.function(task.train), small, images, key)
    save(config, "pruned", jax.device_get(small))
    return {}


def finetune(
    config: Config,
    task: Task,
    graph: jc.Graph,
    keep: dict[str, np.ndarray],
    variables: Any,
    small: Any,
    key: jax.Array,
) -> dict[str, Any]:
    """Teach the pruned network."""
    prune, classes = jc.shrink(graph, keep), task.dataset.num_classes
    opened = store.open_store(config.workdir / "knowledge", source=task.source)
    stored = {name: array[:, 0] for name, array in opened.load().items()}
    train = prune.function(task.featured)
    shape = jax.eval_shape(train, small, jnp.zeros((2, *task.dataset.test_images.shape[1:])), key)
    assistant = {}
    if config.method == "assistant":
        sizes = {"knowledge": stored["features"].shape[1], "view": shape[0][1].shape[1]}
        assistant = knowledge.init_assistant(key, classes=classes, **sizes)
    elif config.method == "bank":
        stored = {"bank": bank_logits(task, graph, keep, variables, config.flops)}
    elif config.method in ("none", "live"):
        stored = {}
    teaching = Teaching(
        config.method,
        temperature=config.temperature,
        live=lambda images: task.apply(variables, images),
    )
    loss, student = teaching_loss(train, teaching), {"student": small, "assistant": assistant}
    rate, epochs = config.student_rate, config.student_epochs
    name = f"student-{config.method}"
    trained = fit(config, task, name, loss, student, key, rate, epochs, stored)
    save(config, name, trained["student"])
    return {}


def measure_all(
    config: Config,
    task: Task,
    prune: jc.Compression,
    before: dict[str, Any],
    student: Any,
    found: dict[str, dict[str, Any]],
) -> list[report.Row]:
    """Measure the teacher, the pruned network and the student; the artifacts are saved here."""
    network = (
        config.network,
        {"num_classes": task.dataset.num_classes, **config.network_config},
    )
    measure = Measure(task.dataset, task.mesh, config.workdir / "artifacts", network)
    small = prune.function(task.apply)
    seconds = {name: facts["seconds"] for name, facts in found.items()}
    plan = {
        "teacher": (task.apply, before["teacher"], jc.chain(), seconds["teacher"]),
        "pruned": (small, before["pruned"], prune, seconds["gates"] + seconds["shrink"]),
        "student": (small, student, prune, seconds["knowledge"] + seconds["fine-tune"]),
    }
    rows = []
    for name, (apply, variables, compression, taken) in plan.items():
        collapse = spread_of(config, task, apply, variables)
        row = measure(name, apply, variables, compression, taken, folder=name, **collapse)
        rows.append(row)
    return rows


def spread_of(config: Config, task: Task, apply: Any, variables: Any) -> dict[str, float]:
    """Measure how logits vary over 8 views of 256 test images: the collapse to be prevented."""
    images = task.dataset.test_images[:256]
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
        CONSOLE.print(f"{name}: {facts['seconds']:.0f} s, {facts['device_hours']:.4f} device-hours")
    total = sum(facts["device_hours"] for facts in found.values())
    CONSOLE.print(f"all stages: {total:.4f} device-hours")
    settings = {**dataclasses.asdict(config), "stages": found}
    path = report.write_report(config.workdir, "limited_resources", settings, rows)
    picture = config.workdir / "limited_resources.png"
    title = f"{config.network} at {config.flops:.0%} FLOPs, taught by {config.method}"
    plot_compression(picture, title, graph, keep, [row.to_json() for row in rows])
    CONSOLE.print(f"report: {path}\npicture: {picture}")


if __name__ == "__main__":
    main(tyro.extras.overridable_config_cli(PRESETS))
