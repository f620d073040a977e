"""Two small networks with means over channels, trained on the digits: their test accuracy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.common import data
from jaxcompress import models
from jaxcompress.annotations import Function, PyTree
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.models.layers import convolution

__all__ = ["NETWORKS", "accuracy", "trained"]


class GroupNormNetwork(nn.Module):
    """A stem and residual blocks, all channels and pixels of an image normalised together."""

    width: int = 32
    depth: int = 3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, 10]`."""
        hidden = convolution("stem", self.width, 3)(images)
        for number in range(self.depth):
            normed = nn.GroupNorm(1, name=f"norm{number}")(hidden)
            wide = nn.relu(convolution(f"expand{number}", 2 * self.width, 3)(normed))
            hidden = hidden + convolution(f"project{number}", self.width, 1)(wide)
        hidden = nn.relu(nn.GroupNorm(1, name="final_norm")(hidden))
        return nn.Dense(10, name="classifier")(hidden.mean((1, 2)))


NETWORKS: dict[str, nn.Module] = {
    "transformer, LayerNorm": models.VisionTransformer(
        patch_size=2, width=48, depth=4, heads=4, mlp_ratio=2.0
    ),
    "CNN, GroupNorm": GroupNormNetwork(),
}


def trained(module: nn.Module, dataset: data.Dataset, seed: int, epochs: int = 60) -> PyTree:
    """Train by Adam, its rate falling as a cosine from 2e-3, on batches of 128."""
    images, labels = data.preprocess(dataset)(dataset.train_images), dataset.train_labels
    start, order = jax.random.split(jax.random.key(seed))
    variables = models.initialize(module, start, data.image_shape(dataset).shape)
    steps = len(labels) // 128
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, epochs * steps))
    apply = models.evaluation_function(module)

    @jax.jit
    def step(variables: PyTree, state: Any, picked: jax.Array) -> tuple[PyTree, Any]:
        def loss(variables: PyTree) -> jax.Array:
            logits = apply(variables, images[picked])
            return cross_entropy(logits, jnp.asarray(labels)[picked]).mean()

        change, state = tx.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, change), state

    state = tx.init(variables)
    for epoch in range(epochs):
        for picked in data.epoch_indices(order, epoch, len(labels), 128):
            variables, state = step(variables, state, picked)
    return variables


def accuracy(apply: Function, variables: PyTree, dataset: data.Dataset) -> float:
    """Return the share of test images that are told right."""
    logits = jax.jit(apply)(variables, data.preprocess(dataset)(dataset.test_images))
    return float(np.mean(np.asarray(logits).argmax(-1) == dataset.test_labels))
