"""Fine-tune a compressed network with the original's stored logits, or by cross-entropy alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax

from experiments import data, loop
from jaxcompress.knowledge.losses import cross_entropy, kd

__all__ = ["Tuner", "Tuning"]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a compressed network is trained on.

    Attributes:
        epochs: 0 for none.
        train_images: how many training images; 0 for all.
        rate: learning rate of SGD with momentum 0.9 and weight decay 5e-4.
        schedule: cosine to zero, or a constant rate.
        distillation: share of the loss that compares with the original's stored logits.
        temperature: of the distillation.
        batch_size: images per step.
    """

    epochs: int = 0
    train_images: int = 0
    rate: float = 0.005
    schedule: Literal["cosine", "constant"] = "cosine"
    distillation: float = 0.5
    temperature: float = 4.0
    batch_size: int = 128


@dataclasses.dataclass(frozen=True)
class Tuner:
    """Fine-tunes compressed forms of one network; the original's logits are computed once.

    Attributes:
        task: `prune.Task`, the original network and its data.
        tuning: for how long, and how.
        key: of the batches and their augmentation.
    """

    task: Any
    tuning: Tuning
    key: jax.Array

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The images to train on."""
        return first_images(self.task.dataset, self.tuning.train_images)

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """The original's answers to them."""
        return stored_logits(self.task, self.dataset)

    def __call__(self, train_apply: Callable[..., Any], variables: Any) -> Any:
        """Return the variables after training all of them together.

        Args:
            train_apply: of the compressed network.
            variables: of the compressed network.
        """
        tuning, dataset, share = self.tuning, self.dataset, self.tuning.distillation

        def loss(own: Any, batch: Any, _: jax.Array) -> Any:
            outputs, state = train_apply(own, batch["image"])
            value = (1 - share) * cross_entropy(outputs, batch["label"])
            if share:
                value += share * kd(outputs, batch["logits"], tuning.temperature)
            return value.mean(), (state, {"loss": value.mean()})

        steps = tuning.epochs * (len(dataset.train_labels) // tuning.batch_size)
        is_cosine = tuning.schedule == "cosine"
        rate = optax.cosine_decay_schedule(tuning.rate, steps) if is_cosine else tuning.rate
        momentum = optax.sgd(rate, momentum=0.9, nesterov=True)
        trained = loop.train(
            loss,
            optax.chain(optax.add_decayed_weights(5e-4), momentum),
            variables,
            dataset,
            epochs=tuning.epochs,
            batch_size=tuning.batch_size,
            key=self.key,
            mesh=self.task.mesh,
            views=self.task.views,
            extra={"logits": self.logits} if share else {},
        )
        return trained.state.variables


def first_images(dataset: data.Dataset, count: int) -> data.Dataset:
    """Return the data set with only its first training images; 0 for all."""
    count = count or len(dataset.train_labels)
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:count],
        train_labels=dataset.train_labels[:count],
    )


def stored_logits(task: Any, dataset: data.Dataset) -> np.ndarray:
    """Return the dense network's logits of all training images, without augmentation."""
    preprocess = data.preprocess(dataset)
    logits = jax.jit(lambda images: task.apply(task.variables, preprocess(images)))
    images = dataset.train_images
    return np.concatenate([logits(images[i : i + 500]) for i in range(0, len(images), 500)])
