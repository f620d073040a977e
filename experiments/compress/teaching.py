"""The whole network's answers, stored once, and what a smaller network learns from them."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.compress.fitting import Task
from experiments.compress.integers import coded, is_quantized, rounded_floats
from experiments.compress.judging import asked, distance_between
from experiments.compress.learning import learn
from experiments.compress.making import Making, digest
from experiments.compress.methods import renewed
from experiments.compress.model import Model
from jaxcompress import knowledge, parallel, recipes
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.knowledge import cross_entropy, store
from jaxcompress.processes import by_first

__all__ = ["store_answers", "taught", "trained"]

WEIGHT = 0.5
"""Of the distance to the whole network's answers; the rest is of labels, where there are any."""


def store_answers(making: Making, key: str) -> Path:
    """Ask the whole network once about all training examples, and return where that is stored."""
    name = f"answers-{digest(key, 'answers')}"
    folder = making.stages.workdir / name
    making.stages.run(name, partial(_stored, making.task, folder), [name])
    return folder


def _stored(task: Task, folder: Path) -> dict[str, Json]:
    def teacher(variables: PyTree, batch: Batch) -> dict[str, Array]:
        return {store.LOGITS: task.model.apply(variables, task.data.inputs(batch))}

    images = {"image": task.data.train["image"]}
    source = knowledge.Source(images, len(images["image"]), knowledge.fingerprint(images))
    mesh = parallel.mesh(jax.local_devices()[:1])
    manifest = store.write(folder, teacher, task.model.variables, source, mesh=mesh)
    return {"examples": source.examples, "size": store.num_bytes(manifest)}


def taught(
    making: Making, model: Model, answers: Path, is_sparse: bool, key: str
) -> tuple[Model, Any]:
    """Let a network learn from stored answers, and from labels; then renew its statistics.

    One in integers learns as the floats that are rounded to them. A lesson that does not lower its
    loss on examples that it did not show is not kept: few images teach nothing but themselves.

    Args:
        making: what stages share.
        model: the network.
        answers: where they are stored.
        is_sparse: whether weights that are zero stay so.
        key: digest of all that this depends on.
    """
    task, config = making.task, making.config
    pupil = rounded_floats(model, task.model) if is_quantized(model) else model
    lesson = recipes.distill(
        _training(pupil),
        store.open_store(answers),
        labels=itemgetter("label") if task.learns_from_labels else None,
        weight=WEIGHT,
        distance=task.outputs,
        inputs=task.data.inputs,
    )
    arrays = {**task.data.train, **lesson.knowledge}
    arrays = {name: array[making.shown] for name, array in arrays.items()}
    learned, facts = learn(
        lesson.training_loss,
        pupil.variables,
        arrays,
        config.epochs,
        config,
        making.console,
        is_sparse,
        making.state_folder(key),
    )
    if is_quantized(model):
        return _better(making, model, coded(model, learned).variables, facts)
    pupil = renewed(task, model._replace(variables=learned), making.looked)
    return _better(making, model, pupil.variables, facts)


def _better(
    making: Making, model: Model, learned: PyTree, facts: dict[str, Json]
) -> tuple[Model, dict[str, Json]]:
    """Return the network after the lesson, or the one before where its loss is as low."""
    answers = asked(making.task, model, making.held)

    def losses() -> list[float]:
        return [_loss(making, answers(variables)) for variables in (model.variables, learned)]

    before, after = by_first("losses", losses)
    facts = {**facts, "loss_before": before, "loss_after": after, "held": len(making.held["image"])}
    if after < before:
        return model._replace(variables=learned), {**facts, "kept": True}
    return model, {**facts, "kept": False}


def _loss(making: Making, answers: np.ndarray) -> float:
    """Return the lesson's loss on the examples that it does not show, in evaluation mode."""
    distance = distance_between(making.task, answers, making.held_answers)
    if not making.task.learns_from_labels:
        return distance
    labels = jnp.asarray(making.held["label"])
    labelled = float(cross_entropy(jnp.asarray(answers), labels).mean())
    return WEIGHT * distance + (1 - WEIGHT) * labelled


def trained(making: Making, model: Model, key: str) -> tuple[Model, Any]:
    """Train a new network by its labels; `key` is a digest of all that this depends on."""
    task, config = making.task, making.config
    train = _training(model)

    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        logits, state = train(variables, task.data.inputs(batch), key)
        return cross_entropy(logits, batch["label"]).mean(), (state, {})

    epochs, console = config.teacher_epochs, making.console
    folder = making.state_folder(key)
    learned, facts = learn(
        loss, model.variables, task.data.train, epochs, config, console, folder=folder
    )
    return model._replace(variables=learned), facts


def _training(model: Model) -> Function:
    """Return the training mode, or evaluation as such where there is none."""
    if model.train_apply is not None:
        return model.train_apply
    return lambda variables, inputs, key: (model.apply(variables, inputs), {})
