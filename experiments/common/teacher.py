"""What the stages of `limited_resources` share: network, data, teacher's outputs, variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import data
from experiments.lessons import Kind
from experiments.limited_config import Config
from jaxcompress import knowledge, models, parallel, training
from jaxcompress.knowledge import store

__all__ = ["Task", "image_shape", "prepare", "save", "saved", "view_key"]


class Task(NamedTuple):
    """The network at hand, its data and its devices."""

    module: Any
    apply: Callable[..., Any]
    train: Callable[..., Any]
    teacher: store.Teacher
    initial: Callable[[jax.Array], Any]
    dataset: data.Dataset
    sources: dict[Kind, knowledge.Source]
    mesh: Any


def prepare(config: Config) -> Task:
    """Load the data and build the functions."""
    dataset = data.load(config.dataset, config.data_dir)
    if config.weights is not None:
        dataset = dataclasses.replace(dataset, mean=data.IMAGENET[0], std=data.IMAGENET[1])
    train, test = config.train_images or None, config.test_images or None
    dataset = dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
    )
    module = models.build(config.network, num_classes=dataset.num_classes, **config.network_config)
    shape = (1, *dataset.test_images.shape[1:])
    return Task(
        module,
        models.evaluation_function(module),
        models.training_function(module),
        make_answers(config, module, dataset),
        lambda key: models.initialize(module, key, shape),
        dataset,
        sources_of(config, dataset),
        parallel.mesh(),
    )


def make_answers(config: Config, module: Any, dataset: data.Dataset) -> store.Teacher:
    """Return the function whose outputs are stored."""
    names = [name for name in (config.features, config.before_features) if name]
    inner = store.intermediates(module, names, preprocess=data.preprocess(dataset), train=False)

    def teacher(variables: Any, images: Any) -> dict[str, jax.Array]:
        outputs = inner(variables, images)
        pooled = outputs[config.features].mean(axis=(1, 2))
        found = {"logits": outputs["logits"], "features": pooled}
        if config.before_features:
            mean, deviation = knowledge.style(outputs[config.before_features])
            found |= {"mean": mean, "deviation": deviation}
        return found

    return teacher


def sources_of(config: Config, dataset: data.Dataset) -> dict[Kind, knowledge.Source]:
    """Return what the teacher may look at: the images as they are, or views of them."""
    images, key = dataset.train_images, view_key(config)
    one = knowledge.Source(images, len(images), knowledge.fingerprint(images), key)
    drawn = dataclasses.replace(one, views=config.stored_views, settings=config.views)
    return {"image": one, "views": drawn}


def view_key(config: Config) -> jax.Array:
    """Return the key of all views: stored knowledge and training share it."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def image_shape(dataset: data.Dataset) -> jax.ShapeDtypeStruct:
    """Return one image, abstractly."""
    return jax.ShapeDtypeStruct((1, *dataset.test_images.shape[1:]), jnp.float32)


def saved(config: Config, name: str, like: Any) -> Any:
    """Read the variables that a stage saved."""
    return training.restore_checkpoint(config.workdir / name, like)


def save(config: Config, name: str, variables: Any) -> None:
    """Save the variables of a stage."""
    training.save_checkpoint(config.workdir / name, variables, overwrite=True)
