"""A network as experiments pass it on: its functions, its variables, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jaxcompress as jc
from jaxcompress import artifact, models
from jaxcompress.annotations import Function, Json, PyTree
from jaxcompress.models.efficientnet import EfficientNetLite
from jaxcompress.models.resnet import ResNet
from jaxcompress.models.resnet_imagenet import ImageNetResNet
from jaxcompress.models.vgg import VGG

__all__ = ["Network", "load_published", "published_variables", "untrained"]


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
    """Load the published weights of a network, as safetensors.

    Args:
        module: the network.
        shape: of a batch of its images.
        weights: the file.

    Raises:
        ValueError: if the file holds another network's weights.
    """
    like = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), shape))
    return load_published(module, like, weights)


def load_published(module: object, like: PyTree, weights: Path) -> Any:
    """Load published weights into variables of which the shapes are known.

    Args:
        module: the network.
        like: its variables, or their shapes.
        weights: a state dict of PyTorch, as safetensors.

    Raises:
        ValueError: if the file holds another network's weights, or its names are not known.
    """
    if isinstance(module, EfficientNetLite):
        return artifact.load_efficientnet_lite(weights, like)
    return artifact.load_torch_weights(weights, like, _names_of(module))


def _names_of(module: object) -> Callable[[str], str | None]:
    """Return how the published weights of a network call its leaves."""
    if isinstance(module, ResNet):
        return artifact.akamaster_resnet_name
    if isinstance(module, ImageNetResNet):
        return artifact.torchvision_resnet_name
    if isinstance(module, VGG):
        return artifact.chengyangfu_vgg_name(module.depth, module.batch_norm)
    raise ValueError(
        "weights: names of published tensors are known for ResNets, CIFAR's VGGs and "
        f"EfficientNet-Lite0, but not for {type(module).__name__}; load them in a "
        "function of your own, which experiments.compress takes as --model, or save an artifact"
    )
