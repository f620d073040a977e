"""Train a student by a lesson; interrupted, it goes on where its state was last kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from experiments.common import loop
from experiments.common.data import Dataset
from experiments.common.distill import trainable
from experiments.common.lessons import Lesson
from jaxcompress import training
from jaxcompress.annotations import PyTree
from jaxcompress.knowledge import Views

__all__ = ["Schedule", "fit"]


class Schedule(NamedTuple):
    """How a network is trained.

    Attributes:
        rate: first learning rate, which falls to zero by a cosine.
        epochs: passes over the training images.
        batch_size: images per update.
        views: augmentation.
        view_key: of the views, which stored knowledge was drawn with.
        accumulate_steps: parts of a batch, whose gradients are added up.
    """

    rate: float
    epochs: int
    batch_size: int
    views: Views
    view_key: jax.Array
    accumulate_steps: int = 1


def fit(
    lesson: Lesson,
    variables: PyTree,
    dataset: Dataset,
    schedule: Schedule,
    key: jax.Array,
    mesh: Mesh,
    folder: Path,
    on_epoch: Callable[[], None] = lambda: None,
) -> Any:
    """Return the student's variables after training.

    Args:
        lesson: how it is taught.
        variables: where it starts.
        dataset: its training images.
        schedule: for how long, and how.
        key: of the order of the images.
        mesh: the devices.
        folder: of the state that is kept.
        on_epoch: called after each epoch.
    """
    tx = _optimizer(schedule, len(dataset.train_labels))
    both = {"student": variables, "assistant": lesson.assistant}

    def ended(_: training.TrainState) -> dict[str, float]:
        on_epoch()
        return {}

    trained = loop.train(
        lesson.loss,
        tx,
        both,
        dataset,
        epochs=schedule.epochs,
        batch_size=schedule.batch_size,
        accumulate_steps=schedule.accumulate_steps,
        key=key,
        mesh=mesh,
        views=schedule.views,
        view_key=schedule.view_key,
        view_of=lesson.view_of,
        extra=lesson.extra,
        trainable=trainable,
        folder=folder,
        on_epoch=ended,
    )
    return jax.device_get(trained.state.variables["student"])


def _optimizer(schedule: Schedule, images: int) -> optax.GradientTransformation:
    steps = schedule.epochs * (images // schedule.batch_size)
    rate = optax.cosine_decay_schedule(schedule.rate, steps)
    momentum = optax.sgd(rate, momentum=0.9, nesterov=True)
    return optax.chain(optax.add_decayed_weights(5e-4), momentum)
