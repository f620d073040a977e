"""A network as experiments pass it on: its functions, its variables, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Function, Json, PyTree
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights

__all__ = ["Network", "published_variables", "untrained"]


class Network(NamedTuple):
    """A network, compressed or not.

    Attributes:
        source: name and configuration of the uncompressed network, as an artifact holds them.
        apply: in evaluation mode, `apply(variables, images) -> logits`.
        train_apply: in training mode, `train_apply(variables, images, key) -> (logits, state)`.
        variables: of both.
        compression: how it came from `source`.
    """

    source: tuple[str, Mapping[str, Any]]
    apply: Function
    train_apply: Function
    variables: PyTree
    compression: jc.Compression

    def compressed(self, change: jc.Compression) -> Network:
        """Return the network after a further compression, made for it as it is."""
        return self.after(change, change.variables(self.variables))

    def after(self, change: jc.Compression, variables: PyTree) -> Network:
        """Return the same with other variables, which know more than the change alone."""
        return Network(
            self.source,
            change.function(self.apply),
            change.function(self.train_apply),
            variables,
            jc.chain(self.compression, change),
        )


def untrained(name: str, config: Mapping[str, Json], variables: PyTree = None) -> Network:
    """Return a network of the registry, by default without variables yet.

    Example:
        >>> untrained("resnet20", {"num_classes": 10}).source[0]
        'resnet20'
    """
    module = models.build(name, **config)
    functions = models.evaluation_function(module), models.training_function(module)
    return Network((name, config), *functions, variables, jc.chain())


def published_variables(module: Any, shape: tuple[int, ...], weights: Path) -> Any:
    """Load the PyTorch state dict of a CIFAR ResNet, as safetensors.

    Args:
        module: the network.
        shape: of a batch of its images.
        weights: the file.

    Raises:
        ValueError: if the file holds another network's weights.
    """
    like = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), shape))
    return load_torch_weights(weights, like, akamaster_resnet_name)
