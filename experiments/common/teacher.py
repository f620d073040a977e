"""The teacher and its data: what it looks at, what of it is stored, and where."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax

from experiments.common import data
from experiments.common.distill import Method
from experiments.common.student import Student
from jaxcompress import knowledge
from jaxcompress.annotations import Batch, PyTree
from jaxcompress.knowledge import store

__all__ = ["Kind", "dataset_of", "kind_of", "network_of", "source_of", "stored_outputs", "view_key"]

Kind = Literal["image", "views"]


def kind_of(method: Method) -> Kind:
    """Say which knowledge a method reads: of the image itself, or of views of it."""
    return "views" if method in ("views", "crossed") else "image"


def dataset_of(settings: Student) -> data.Dataset:
    """Load the data, normalised as published weights expect where there are some."""
    dataset = data.load(settings.dataset, settings.data_dir)
    if settings.weights is not None:
        dataset = dataclasses.replace(dataset, mean=data.IMAGENET[0], std=data.IMAGENET[1])
    return data.first(dataset, settings.train_images, settings.test_images)


def network_of(settings: Student, dataset: data.Dataset) -> tuple[str, dict[str, Any]]:
    """Return name and configuration of the teacher, as an artifact holds them."""
    return settings.network, {"num_classes": dataset.num_classes, **settings.network_config}


def stored_outputs(
    module: Any, features: str, before_features: str | None, dataset: data.Dataset
) -> store.Teacher:
    """Return the function whose outputs are stored: logits and pooled features of images.

    Args:
        module: the teacher.
        features: the submodule whose output is averaged over the image.
        before_features: another, of which the mean and deviation of channels are stored, or None.
        dataset: whose images are normalised.
    """
    names = [name for name in (features, before_features) if name]
    inner = store.intermediates(module, names, preprocess=data.preprocess(dataset), train=False)

    def teacher(variables: PyTree, images: Batch) -> dict[str, jax.Array]:
        outputs = inner(variables, images)
        pooled = outputs[features].mean(axis=(1, 2))
        stored = {"logits": outputs["logits"], "features": pooled}
        if before_features:
            mean, deviation = knowledge.style(outputs[before_features])
            stored |= {"mean": mean, "deviation": deviation}
        return stored

    return teacher


def source_of(settings: Student, images: Batch, kind: Kind) -> knowledge.Source:
    """Return what the teacher may look at: the images as they are, or views of them."""
    key = view_key(settings.seed)
    source = knowledge.Source(images, len(images), knowledge.fingerprint(images), key)
    if kind == "image":
        return source
    return dataclasses.replace(source, views=settings.stored_views, settings=settings.views)


def view_key(seed: int) -> jax.Array:
    """Return the key of all views: stored knowledge and training share it."""
    return jax.random.fold_in(jax.random.key(seed), 1)
