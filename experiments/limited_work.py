"""The stages of `limited_resources`: what each does, from the teacher to the taught student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from experiments import data, loop
from experiments.distill import Teaching, featured_training, teaching_loss, trainable
from experiments.interim import bank_logits
from experiments.limited_config import Config
from experiments.measure import augmented
from experiments.score import Source, score
from jaxcompress import knowledge, models, parallel, training
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights
from jaxcompress.knowledge import cross_entropy, store

__all__ = [
    "Dense",
    "Task",
    "choose",
    "finetune",
    "image_shape",
    "make_teacher",
    "prepare",
    "read_keep",
    "record",
    "saved",
    "shrink",
]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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


def record(config: Config, task: Task, variables: Any, key: jax.Array) -> dict[str, Any]:
    """Store the teacher's logits and features of the images without augmentation, once."""
    del key  # nothing is random: the images are taken as they are
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


class Dense(NamedTuple):
    """The teacher, and what is kept of it."""

    graph: jc.Graph
    keep: dict[str, np.ndarray]
    variables: Any


def finetune(
    config: Config,
    task: Task,
    dense: Dense,
    small: Any,
    key: jax.Array,
) -> dict[str, Any]:
    """Teach the pruned network."""
    graph, keep, variables = dense
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
