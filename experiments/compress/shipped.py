"""Shipped networks by name: published weights, an artifact's, or none yet."""

from __future__ import annotations

from pathlib import Path

import jax

import jaxcompress as jc
from experiments.common.network import load_published
from experiments.compress.model import Model
from jaxcompress import artifact, models
from jaxcompress.annotations import PyTree

__all__ = ["shipped_model"]


def shipped_model(name: str, classes: int, inputs: PyTree, weights: Path | None) -> Model:
    """Return a shipped network, with variables, or with their shapes where there are no weights.

    Args:
        name: of the network.
        classes: how many it tells apart.
        inputs: one example of its inputs, abstractly.
        weights: published ones, as safetensors, or an artifact's folder.

    Raises:
        ValueError: if the weights are another network's.
    """
    config = {"num_classes": classes}
    module = models.build(name, **config)
    functions = models.evaluation_function(module), models.training_function(module)
    key = jax.random.key(0)
    try:
        like = jax.eval_shape(lambda key: models.initialize(module, key, inputs), key)
    except Exception as error:  # Flax and JAX raise what they please
        raise ValueError(
            f"model: {name} takes examples like the data's, but not of shape "
            f"{list(inputs.shape[1:])} ({type(error).__name__}: {error}); take another network, "
            "such as resnet8, or larger images"
        ) from error
    model = Model("shipped", *functions, like, network=(name, config))
    if weights is None:
        return model
    if weights.is_dir():
        return _of_artifact(model, weights)
    return model._replace(variables=load_published(module, like, weights))


def _of_artifact(model: Model, folder: Path) -> Model:
    compression = jc.from_spec(artifact.inspect(folder)["spec"])
    _, variables = jc.load(folder, model.apply, like=model.variables)
    return model.after(compression, variables)._replace(origin=(model.apply, model.variables))
