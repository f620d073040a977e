"""The network, the images, and the one way in which all importances are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from benchmarks.importance.settings import Form, Groups
from experiments.common import data, published, score
from jaxcompress import training
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.graph import streams
from jaxcompress.knowledge.drawing import Views, views

__all__ = ["Measure", "Task", "load_task"]

BATCH = 256
HELD_OUT = 5_000
"""The last training images: none of them is used for scoring."""


class Task(NamedTuple):
    """What is pruned, and with which images it is scored.

    Attributes:
        graph: of the network.
        groups: the groups that may be pruned.
        apply: evaluation mode.
        train_apply: training mode.
        variables: the trained weights.
        loss: cross-entropy in training mode.
        dataset: `train_*` without the held-out images.
        held_out: the held-out training images and labels.
    """

    graph: jc.Graph
    groups: tuple[str, ...]
    apply: Function
    train_apply: Function
    variables: PyTree
    loss: Callable[[PyTree, Batch], jax.Array]
    dataset: data.Dataset
    held_out: tuple[np.ndarray, np.ndarray]

    def batches(self, key: jax.Array, *leading: int, augment: bool = True) -> dict[str, jax.Array]:
        """Draw training examples, `[*leading, ...]`, each at most once."""
        order = jax.random.permutation(key, len(self.dataset.train_labels))
        chosen = order[: int(np.prod(leading))]
        images = jnp.asarray(self.dataset.train_images[np.asarray(chosen)])
        if augment:
            images = views(jax.random.fold_in(key, 1), chosen, 0, images, settings=Views())
        images = data.preprocess(self.dataset)(images)
        labels = jnp.asarray(self.dataset.train_labels[np.asarray(chosen)])
        return {
            "image": images.reshape(*leading, *images.shape[1:]),
            "label": labels.reshape(*leading),
        }

    def with_logits(self, batches: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Add the dense network's logits, in evaluation mode, to batches `[*leading, ...]`."""
        return score.with_logits(self.apply, self.variables, batches)


def load_task(folder: Path, network: str, groups: Groups) -> Task:
    """Load weights and images from the shared folder, and trace the network."""
    weights = folder / "weights" / f"{network}_cifar10.safetensors"
    whole, dataset = published.load(network, weights, "cifar10", folder / "tensorflow_datasets")
    _, apply, train_apply, variables, _ = whole
    last = dataset.train_images[-HELD_OUT:], dataset.train_labels[-HELD_OUT:]
    dataset = dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:-HELD_OUT],
        train_labels=dataset.train_labels[:-HELD_OUT],
    )
    graph = jc.trace(apply, variables, data.image_shape(dataset))
    left_alone = streams(graph) if groups == "internal" else []
    chosen = tuple(name for name in graph.groups if name not in left_alone)

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        logits, _ = train_apply(variables, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    return Task(graph, chosen, apply, train_apply, variables, loss, dataset, last)


class Measure:
    """Accuracy of a keep after BatchNorm re-estimation, with gates: nothing is compiled twice."""

    def __init__(
        self,
        task: Task,
        test_images: int,
        validation_images: int,
        estimation_images: int,
        forms: Sequence[Form],
        recover: Callable[[PyTree, Batch, jax.Array], Any],
    ) -> None:
        self._task, self._estimation, self._forms = task, estimation_images, forms
        self._recover = recover
        normalize = data.preprocess(task.dataset)
        gated_train = jc.gated(task.graph, lambda v, images, key: task.train_apply(v, images))
        gated = jc.gated(task.graph, task.apply)
        test = task.dataset.test_images[:test_images], task.dataset.test_labels[:test_images]
        held_out = tuple(part[:validation_images] for part in task.held_out)
        self._splits = [_padded(*split) for split in (held_out, test)]

        @jax.jit
        def reestimate(variables: PyTree, gates: PyTree, batches: jax.Array) -> PyTree:
            train = lambda tree, images, key: gated_train(tree, gates, images, key)  # noqa: E731
            return training.reestimate(train, variables, batches, key=jax.random.key(0))

        @jax.jit
        @fast_convolutions
        def correct(
            variables: PyTree, gates: PyTree, images: jax.Array, labels: jax.Array
        ) -> jax.Array:
            logits = gated(variables, gates, normalize(images))
            return (logits.argmax(-1) == labels).sum()

        self._reestimate, self._correct = reestimate, correct

    def __call__(
        self, keep: dict[str, np.ndarray], seed: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return validation and test accuracy in percent, each by form of re-estimation.

        Of a split without images, nothing.
        """
        every = self._task.graph.groups
        whole = {name: np.ones(group.width, bool) for name, group in every.items()}
        gates = {name: jnp.asarray({**whole, **keep}[name], jnp.float32) for name in every}
        key = jax.random.fold_in(jax.random.key(7), seed)
        accuracies: list[dict[str, float]] = [{}, {}]
        for form in self._forms:
            shape = (self._estimation // BATCH, BATCH)
            batches = self._task.batches(key, *shape, augment=form != "plain")["image"]
            variables = self._reestimate(self._task.variables, gates, batches)
            if form == "recovered":
                variables = self._recover(variables, gates, jax.random.fold_in(key, 2))
                variables = self._reestimate(variables, gates, batches)
            for result, split in zip(accuracies, self._splits, strict=True):
                if split[2]:
                    result[form] = self._accuracy(variables, gates, *split)
        return accuracies[0], accuracies[1]

    def _accuracy(
        self, variables: PyTree, gates: PyTree, images: Batch, labels: Batch, count: int
    ) -> float:
        hits = [
            self._correct(variables, gates, batch, wanted)
            for batch, wanted in zip(images, labels, strict=True)
        ]
        return 100 * float(sum(int(hit) for hit in hits)) / count


def _padded(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut into batches of one size; the label -1 of what is added is never hit."""
    count, missing = len(labels), -len(labels) % BATCH
    images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    labels = np.concatenate([labels, np.full(missing, -1, labels.dtype)])
    return images.reshape(-1, BATCH, *images.shape[1:]), labels.reshape(-1, BATCH), count
