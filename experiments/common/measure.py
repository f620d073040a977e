"""Measure one network: accuracy, size, cost, bytes on disk and latency, as a row of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import jaxcompress as jc
from experiments.common import data
from experiments.common.report import Row, latency_ms
from jaxcompress import artifact, parallel, training
from jaxcompress.annotations import Function, Json, PyTree
from jaxcompress.backend import compiled
from jaxcompress.graph import default_trainable
from jaxcompress.knowledge.drawing import Views, views
from jaxcompress.paths import flatten_with_paths
from jaxcompress.report import details

__all__ = ["Measure", "accuracy_of", "augmented", "classified", "count_nonzero"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """What all rows of one experiment share.

    Attributes:
        dataset: whose test images are classified.
        mesh: the devices that share the evaluation.
        workdir: artifacts are saved here, each in a folder of its own.
        network: name and configuration of the uncompressed network.
        batch_size: images per batch of the evaluation.
        latency_batch: images per call when latency is measured, on one device.
        original: graph and variables of the uncompressed network, to tell what of it is gone.
    """

    dataset: data.Dataset
    mesh: Mesh
    workdir: Path
    network: tuple[str, Mapping[str, Any]]
    batch_size: int = 500
    latency_batch: int = 128
    original: tuple[jc.Graph, PyTree] | None = None

    def __call__(
        self,
        name: str,
        apply: Function,
        variables: PyTree,
        compression: jc.Compression,
        seconds: float,
        *,
        folder: str | None = None,
        **extra: Json,
    ) -> Row:
        """Evaluate, count, save and time one network.

        Args:
            name: of the row.
            apply: in evaluation mode.
            variables: its variables.
            compression: how it came from the network called `network`.
            seconds: what it took to make it.
            folder: of the artifact; without it nothing is saved.
            **extra: further fields of the row.
        """
        graph = jc.trace(apply, variables, data.image_shape(self.dataset))
        size = None
        if folder is not None:
            jc.save(self.workdir / folder, compression, variables, network=self.network)
            size = artifact.num_bytes(self.workdir / folder)
        if self.original is not None:
            whole, dense = self.original
            extra = {**extra, "details": details(whole, compression, dense, variables)}
        accuracy, count = accuracy_of(apply, variables, self.dataset, self.mesh, self.batch_size)
        return Row(
            name=name,
            accuracy=accuracy,
            num_params=graph.params,
            num_nonzero=count_nonzero(variables),
            flops=graph.flops,
            bytes=size,
            latency_ms=self._latency(apply, variables),
            seconds=seconds,
            extra={"latency_batch": self.latency_batch, "count": count, **extra},
        )

    def _latency(self, apply: Function, variables: PyTree) -> float:
        images = data.preprocess(self.dataset)(self.dataset.test_images[: self.latency_batch])
        variables = parallel.on_one_device(variables)
        return latency_ms(compiled(apply), variables, images, repeats=5)


def accuracy_of(
    apply: Function, variables: PyTree, dataset: data.Dataset, mesh: Mesh, batch_size: int = 500
) -> tuple[float, float]:
    """Return the fraction of test images that are classified right, and how many there are."""
    images, labels, preprocess = dataset.test_images, dataset.test_labels, data.preprocess(dataset)
    metrics = classified(apply, variables, images, labels, preprocess, mesh, batch_size)
    return metrics["accuracy"], metrics["count"]


def classified(
    apply: Function,
    variables: PyTree,
    images: np.ndarray,
    labels: np.ndarray,
    preprocess: Function,
    mesh: Mesh,
    batch_size: int = 500,
) -> dict[str, float]:
    """Return what `training.evaluate` does, of images that processes share among them.

    Args:
        apply: in evaluation mode.
        variables: of the network.
        images: all of them, in every process.
        labels: of all of them.
        preprocess: what turns images into the network's input.
        mesh: the devices that share the evaluation.
        batch_size: images per batch, of all processes together.
    """
    part = slice(jax.process_index(), None, jax.process_count())
    return training.evaluate(
        apply,
        variables,
        images[part],
        labels[part],
        batch_size=-(-batch_size // jax.process_count()),
        mesh=mesh,
        preprocess=preprocess,
    )


def count_nonzero(variables: PyTree) -> int:
    """Return how many trainable parameters are not zero.

    Example:
        >>> count_nonzero({"params": {"kernel": np.array([1.0, 0.0, 2.0])}})
        2
    """
    leaves, _ = flatten_with_paths(variables)
    trainable = default_trainable(variables)
    counted = [leaf for path, leaf in leaves.items() if trainable(path, leaf)]
    return sum(int(np.count_nonzero(np.asarray(leaf))) for leaf in counted)


def augmented(
    dataset: data.Dataset,
    key: jax.Array,
    *,
    count: int,
    batch_size: int,
    settings: Views | None,
) -> dict[str, jax.Array]:
    """Draw training batches `{"image", "label"}` `[steps, batch, ...]`, each image at most once.

    Args:
        dataset: where they come from.
        key: of the choice and of the views.
        count: how many images, rounded down to whole batches.
        batch_size: images per batch.
        settings: of the augmentation; None for the images as they are.
    """
    count = min(count, len(dataset.train_images)) // batch_size * batch_size
    chosen = np.asarray(jax.random.permutation(key, len(dataset.train_images))[:count])
    images = jnp.asarray(dataset.train_images[chosen])
    if settings is not None:
        images = views(key, jnp.asarray(chosen), 0, images, settings=settings)
    shape = (-1, batch_size, *images.shape[1:])
    labels = jnp.asarray(dataset.train_labels[chosen]).reshape(-1, batch_size)
    return {"image": data.preprocess(dataset)(images).reshape(shape), "label": labels}
