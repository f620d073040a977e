"""Train a network with another's stored logits, or by cross-entropy alone."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from experiments.common import data, loop
from experiments.common.network import Network
from experiments.common.teaching import distillation, stored_logits
from jaxcompress import parallel
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.knowledge.drawing import Views

__all__ = ["Tuner", "Tuning", "trained"]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a network is trained.

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
        network: the original.
        whole: its data set, the first of whose training images are shown.
        views: of the augmentation; None for the images as they are.
        tuning: for how long, and how.
        key: of the batches and their augmentation.
        mesh: the devices.
        workdir: where states are kept of the trainings that have a name; None: nowhere.
    """

    network: Network
    whole: data.Dataset
    views: Views | None
    tuning: Tuning
    key: jax.Array
    mesh: Mesh
    workdir: Path | None = None

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The images to train on."""
        return data.first(self.whole, self.tuning.train_images)

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """The original's logits of them."""
        network, preprocess = self.network, data.preprocess(self.dataset)
        # Variables as constants, which XLA folds: as arguments, the last bits would be others.
        apply = lambda _, images: network.apply(network.variables, images)  # noqa: E731
        return stored_logits(apply, {}, self.dataset.train_images, preprocess=preprocess)

    def __call__(
        self,
        train_apply: Function,
        variables: PyTree,
        rate: float | None = None,
        name: str | None = None,
    ) -> Any:
        """Return the variables after training all of them together.

        Args:
            train_apply: of the compressed network.
            variables: of the compressed network.
            rate: instead of that of `tuning`.
            name: of what is trained, by which a killed run finds where it was.
        """
        folder = self.workdir / f"{name}-state" if self.workdir and name else None
        tuning = self.tuning if rate is None else dataclasses.replace(self.tuning, rate=rate)
        run = trained(
            train_apply,
            variables,
            self.dataset,
            tuning,
            views=self.views,
            key=self.key,
            mesh=self.mesh,
            logits=self.logits if self.tuning.distillation else None,
            folder=folder,
        )
        return parallel.on_one_device(run.state.variables)


def trained(
    train_apply: Function,
    variables: PyTree,
    dataset: data.Dataset,
    tuning: Tuning,
    *,
    views: Views | None,
    key: jax.Array,
    mesh: Mesh,
    logits: np.ndarray | None = None,
    folder: Path | None = None,
) -> loop.Trained:
    """Train by cross-entropy and, where `tuning.distillation` is not 0, by stored `logits`.

    Args:
        train_apply: in training mode, `train_apply(variables, images) -> (logits, state)`.
        variables: where to start.
        dataset: all of whose training images are shown.
        tuning: for how long, and how.
        views: of the augmentation; None for the images as they are.
        key: of the batches and their augmentation.
        mesh: the devices.
        logits: `[n, classes]` of the training images.
        folder: where the state is kept, see `loop.train`.
    """

    def loss(variables: PyTree, batch: Batch, _: jax.Array) -> Any:
        outputs, state = train_apply(variables, batch["image"])
        value = distillation(outputs, batch, tuning.distillation, tuning.temperature).mean()
        return value, (state, {"loss": value})

    return loop.train(
        loss,
        _optimizer(tuning, len(dataset.train_labels)),
        variables,
        dataset,
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        key=key,
        mesh=mesh,
        views=views,
        extra=None if logits is None else {"logits": logits},
        folder=folder,
    )


def _optimizer(tuning: Tuning, images: int) -> optax.GradientTransformation:
    steps = tuning.epochs * (images // tuning.batch_size)
    is_cosine = tuning.schedule == "cosine"
    rate = optax.cosine_decay_schedule(tuning.rate, steps) if is_cosine else tuning.rate
    momentum = optax.sgd(rate, momentum=0.9, nesterov=True)
    return optax.chain(optax.add_decayed_weights(5e-4), momentum)
