"""The network and its published weights, as functions of pixels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from experiments.common.data import Normalize
from experiments.common.network import Network, published_variables, untrained
from experiments.imagenet.settings import Config
from jaxcompress import models
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.backend import fast_convolutions

__all__ = ["abstract_pixels", "fast", "network_of", "trained"]


def abstract_pixels(config: Config, batch: int = 1) -> jax.ShapeDtypeStruct:
    """Return images as they come, abstractly: `uint8[batch, height, width, 3]`."""
    size = config.image_size
    return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)


def fast(function: Function) -> Function:
    """Return a function whose convolutions run on oneDNN, where the one device is a CPU.

    Example:
        >>> float(fast(lambda x: x + 1)(2.0))
        3.0
    """
    return fast_convolutions(function) if jax.device_count() == 1 else function


def network_of(config: Config, classes: int) -> Network:
    """Return the network without variables; its functions take pixels, `uint8`, and normalise them.

    So images lie in a byte a channel wherever they wait, on the host and on devices.

    Args:
        config: the settings.
        classes: how many there are.
    """
    options = {"num_classes": classes, **config.network_config}
    module = models.build(config.network, **options, dtype=jnp.dtype(config.dtype))
    normalize = Normalize(config.mean, config.std)
    inner, inner_train = models.evaluation_function(module), models.training_function(module)

    def apply(variables: PyTree, pixels: Batch) -> jax.Array:
        return inner(variables, normalize(pixels)).astype(jnp.float32)

    def train_apply(
        variables: PyTree, pixels: Batch, key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Array]]:
        logits, state = inner_train(variables, normalize(pixels), key)
        return logits.astype(jnp.float32), state

    return untrained(config.network, options)._replace(apply=apply, train_apply=train_apply)


def trained(config: Config, network: Network) -> Network:
    """Return the network with the weights that the settings name.

    Raises:
        ValueError: if they are another network's.
    """
    assert config.weights is not None
    if config.weights.is_dir():
        like: Any = _like(config, network)
        _, variables = jc.load(config.weights, network.apply, like=like)
    else:
        module = models.build(network.source[0], **network.source[1])
        shape = abstract_pixels(config).shape
        variables = published_variables(module, shape, config.weights)
    return network._replace(variables=variables)


def _like(config: Config, network: Network) -> PyTree:
    module = models.build(network.source[0], **network.source[1])
    shape = abstract_pixels(config).shape
    return jax.eval_shape(lambda key: models.initialize(module, key, shape), jax.random.key(0))
