"""The stages of `limited_resources`: what each does, from the teacher to the taught student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from rich.progress import Progress

import jaxcompress as jc
from experiments import loop
from experiments.distill import Teaching, featured_training, teaching_loss, trainable
from experiments.lessons import Dense, Lesson, kind_of, knowledge_folder, lesson
from experiments.limited_config import Config
from experiments.limited_task import Task, save, view_key
from experiments.measure import augmented
from experiments.score import score, source_of
from experiments.stage_files import read_arrays
from jaxcompress import parallel, training
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights
from jaxcompress.files import atomic_file
from jaxcompress.knowledge import store

__all__ = [
    "Epochs",
    "choose",
    "finetune",
    "fit",
    "make_teacher",
    "read_keep",
    "record",
    "shrink",
]


class Epochs(NamedTuple):
    """How long a network is trained, and under which name its state is kept."""

    name: str
    rate: float
    epochs: int


def make_teacher(config: Config, task: Task, key: jax.Array) -> dict[str, Any]:
    """Load the teacher's weights, or train it by cross-entropy."""
    if config.weights is not None:
        like = jax.eval_shape(task.initial, key)
        variables = load_torch_weights(config.weights, like, akamaster_resnet_name)
    else:
        train = featured_training(task.module, config.features)
        alone = Lesson(teaching_loss(train, Teaching("none")), {}, {}, None)
        epochs = Epochs("teacher", config.teacher_rate, config.teacher_epochs)
        variables = fit(config, task, epochs, task.initial(key), alone, key)
    save(config, "teacher", variables)
    return {}


def fit(
    config: Config,
    task: Task,
    length: Epochs,
    variables: Any,
    taught: Lesson,
    key: jax.Array,
    on_epoch: Callable[[], None] = lambda: None,
) -> Any:
    """Train, keeping the state of the last whole epoch; go on from it where there is one."""
    steps = length.epochs * (len(task.dataset.train_labels) // config.batch_size)
    tx = optax.chain(
        optax.add_decayed_weights(5e-4),
        optax.sgd(optax.cosine_decay_schedule(length.rate, steps), momentum=0.9, nesterov=True),
    )
    folder = config.workdir / f"{length.name}-state"
    both = {"student": variables, "assistant": taught.assistant}
    state = training.init_state(both, tx, trainable=trainable)
    if training.checkpoint_steps(folder):
        state = training.restore_checkpoint(folder, like=state)

    def keep_state(state: training.TrainState) -> dict[str, float]:
        training.save_checkpoint(folder, state, overwrite=True)
        on_epoch()
        return {}

    trained = loop.train(
        taught.loss,
        tx,
        both,
        task.dataset,
        epochs=length.epochs,
        batch_size=config.batch_size,
        key=key,
        mesh=task.mesh,
        views=config.views,
        view_key=view_key(config),
        view_of=taught.view_of,
        extra=taught.extra,
        trainable=trainable,
        state=state,
        on_epoch=keep_state,
    )
    return jax.device_get(trained.state.variables["student"])


def record(config: Config, task: Task, variables: Any, key: jax.Array) -> dict[str, Any]:
    """Store the teacher's logits and features, once."""
    del key  # the views have their own
    kind = kind_of(config.method)
    folder, source = knowledge_folder(config, kind), task.sources[kind]
    about = {"mean": list(task.dataset.mean), "std": list(task.dataset.std)}
    with Progress(transient=True) as bar:
        line = bar.add_task("knowledge", total=None)

        def show(done: store.Progress) -> None:
            size, free = done.num_bytes / 1e6, done.free_bytes / 1e9
            text = f"{size:,.1f} MB of knowledge, {free:,.0f} GB free"
            bar.update(line, completed=done.written, total=done.blocks, description=text)

        manifest = store.write(
            folder, task.teacher, variables, source, about=about, on_progress=show
        )
    opened = store.open_store(folder, variables=variables, source=source, about=about)
    checked = store.verify(opened, task.teacher, variables, source)
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

    def train_apply(own: Any, images: Any) -> tuple[jax.Array, Any]:
        return task.train(own, images, key)

    groups = list(graph.groups) if config.streams else jc.graph.internal_groups(graph)
    budget = jc.Budget(flops=config.flops)
    functions = task.apply, train_apply
    source = source_of(graph, groups, functions, variables, task.dataset, config.views)
    keep = jc.select(graph, score(config.importance, source, budget, key), budget)
    arrays: dict[str, Any] = {name: np.asarray(own) for name, own in keep.items()}
    with atomic_file(config.workdir / "keep.npz") as stream:
        np.savez(stream, **arrays)
    return {"kept": int(sum(own.sum() for own in keep.values()))}


def read_keep(config: Config) -> dict[str, np.ndarray]:
    """Read what `choose` selected."""
    return read_arrays(config.workdir / "keep.npz")


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
    config: Config, task: Task, dense: Dense, small: Any, key: jax.Array
) -> dict[str, Any]:
    """Teach the pruned network."""
    taught = lesson(config, task, dense, small, key)
    name = f"student-{config.method}"
    epochs = Epochs(name, config.student_rate, config.student_epochs)
    trained = fit(config, task, epochs, small, taught, key)
    save(config, name, trained)
    return {}
