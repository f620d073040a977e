"""EfficientNet-Lite0 in Linen, with the weights and names of EfficientNet-PyTorch."""

from __future__ import annotations

import re
from functools import partial

import jax
import numpy as np
from flax import linen as nn

__all__ = ["EfficientNetLite0", "torch_name", "torch_order"]

# Expansion, window, stride of the first block, channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
NORMS = {"_bn0": "expand_bn", "_bn1": "depthwise_bn", "_bn2": "project_bn"}
OUTSIDE = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "head_conv",
    "_bn1": "head_bn",
    "_fc": "classifier",
}
FIELDS = {"running_mean": "batch_stats/{}/mean", "running_var": "batch_stats/{}/var"}


def _convolution(
    name: str, features: int, window: int, stride: int = 1, groups: int = 1
) -> nn.Conv:
    return nn.Conv(
        features,
        (window, window),
        (stride, stride),
        feature_group_count=groups,
        use_bias=False,
        name=name,
    )


class Block(nn.Module):
    """Expand, filter each channel, project; add the input where shapes agree."""

    features: int
    expansion: int
    window: int
    stride: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height/s, width/s, features]`."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-3)
        wide, hidden = images.shape[-1] * self.expansion, images
        if self.expansion > 1:
            hidden = _convolution("expand_conv", wide, 1)(hidden)
            hidden = nn.relu6(norm(name="expand_bn")(hidden))
        hidden = _convolution("depthwise_conv", wide, self.window, self.stride, wide)(hidden)
        hidden = nn.relu6(norm(name="depthwise_bn")(hidden))
        hidden = norm(name="project_bn")(_convolution("project_conv", self.features, 1)(hidden))
        return images + hidden if images.shape == hidden.shape else hidden


class EfficientNetLite0(nn.Module):
    """The network of Tan and Le 2019 (arXiv:1905.11946), without squeeze-and-excitation."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, 224, 224, 3]` to logits `[batch, 1000]`."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-3)
        hidden = nn.relu6(norm(name="stem_bn")(_convolution("stem_conv", 32, 3, 2)(images)))
        number = 0
        for expansion, window, first, features, blocks in STAGES:
            for index in range(blocks):
                stride = 1 if index else first
                block = Block(features, expansion, window, stride, name=f"block{number}")
                hidden, number = block(hidden, train), number + 1
        hidden = nn.relu6(norm(name="head_bn")(_convolution("head_conv", 1280, 1)(hidden)))
        logits: jax.Array = nn.Dense(1000, name="classifier")(hidden.mean((1, 2)))
        return logits


def torch_name(name: str) -> str | None:
    """Rename a tensor of the state dict to the leaf's path.

    Example:
        >>> torch_name("_blocks.1._bn0.running_mean"), torch_name("_fc.weight")
        ('batch_stats/block1/expand_bn/mean', 'params/classifier/kernel')
    """
    module, _, tensor = name.rpartition(".")
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
    if block:
        number, layer = block.groups()
        module = f"block{number}/{NORMS.get(layer, layer.removeprefix('_'))}"
    else:
        module = OUTSIDE.get(module, module)
    weight = "scale" if "bn" in module else "kernel"
    fields = {**FIELDS, "bias": "params/{}/bias", "weight": "params/{}/" + weight}
    return fields[tensor].format(module) if tensor in fields else None


def torch_order(name: str, tensor: np.ndarray) -> np.ndarray:
    """Bring a kernel into the order that its shape in the file says.

    The numbers lie there as TensorFlow has them, `[height, width, in, out]`, under PyTorch's shape.

    Example:
        >>> torch_order("_fc.weight", np.arange(6).reshape(2, 3)).tolist()
        [[0, 2, 4], [1, 3, 5]]
    """
    if tensor.ndim < 2:
        return tensor
    # A depthwise kernel is [height, width, channels, 1], and its shape [channels, 1, ...].
    first = (0, 1) if "depthwise" in name else (1, 0)
    order = (*range(2, tensor.ndim), *first)
    stored = tensor.reshape([tensor.shape[axis] for axis in order])
    return stored.transpose(np.argsort(order))
