"""Residual networks for CIFAR: depth 6n + 2, three stages of n basic blocks.

Every stage halves the resolution and doubles the width of the one before. Where the shape changes,
option A carries the input over without parameters (subsample, pad channels with zeros) and option B
projects it with a 1x1 convolution.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import batch_norm, convolution, he_fan_in, output_logits

__all__ = ["BasicBlock", "ResNet", "pad_shortcut"]


def pad_shortcut(images: jax.Array, features: int, stride: int) -> jax.Array:
    """Carry `images` over to `features` channels: option A of He et al. 2016, section 4.2.

    Keeps every `stride`-th pixel and pads the channels with zeros, `(features - channels) / 2` on
    each side. Maps `[batch, height, width, channels]` to
    `[batch, height / stride, width / stride, features]`.

    Example:
        >>> pad_shortcut(jnp.ones([1, 2, 2, 1]), features=3, stride=2).tolist()
        [[[[0.0, 1.0, 0.0]]]]
    """
    added = features - images.shape[-1]
    before = added // 2
    subsampled = images[:, ::stride, ::stride, :]
    return jnp.pad(subsampled, ((0, 0), (0, 0), (0, 0), (before, added - before)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`.

    Example:
        >>> block = BasicBlock(features=8, stride=2, shortcut="B")
        >>> init = partial(block.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 4, 4, 4]))
        >>> sorted(variables["params"])
        ['bn1', 'bn2', 'conv1', 'conv2', 'shortcut_bn', 'shortcut_conv']
    """

    features: int
    stride: int = 1
    shortcut: Literal["A", "B"] = "A"
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height/s, width/s, features]`."""
        conv = partial(convolution, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        hidden = conv("conv1", self.features, 3, stride=self.stride)(images)
        hidden = nn.relu(norm("bn1")(hidden))
        hidden = norm("bn2")(conv("conv2", self.features, 3)(hidden))

        carried = images
        if self.stride != 1 or images.shape[-1] != self.features:
            if self.shortcut == "A":
                carried = pad_shortcut(images, self.features, self.stride)
            else:
                carried = conv("shortcut_conv", self.features, 1, stride=self.stride)(images)
                carried = norm("shortcut_bn")(carried)
        return nn.relu(hidden + carried)


class ResNet(nn.Module):
    """Residual network of He et al. 2016 (arXiv:1512.03385), section 4.2, for small images.

    Attributes:
        depth: layers with weights on the main path, 6n + 2: 20, 32, 44, 56, 110 are published.
        num_classes: width of the logits.
        width: channels of the first stage; the stages have `width`, `2 * width`, `4 * width`.
        shortcut: `"A"` (no parameters) or `"B"` (1x1 convolution and batch norm).
        dtype: of the computation; None takes what images and variables promote to (float32).
        axis_name: mapped axis over which batch statistics are averaged.

    Raises:
        ValueError: if `depth` is not 6n + 2 or `shortcut` is neither option.

    Example:
        >>> module = ResNet(depth=8, width=4)
        >>> init = partial(module.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 8, 8, 1]))
        >>> sorted(variables["params"])
        ['classifier', 'stage1_block0', 'stage2_block0', 'stage3_block0', 'stem_bn', 'stem_conv']
    """

    depth: int = 20
    num_classes: int = 10
    width: int = 16
    shortcut: Literal["A", "B"] = "A"
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2 with n >= 1, got {self.depth}; take 8, 14, 20")
        if self.shortcut not in ("A", "B"):
            raise ValueError(
                f"shortcut must be 'A' or 'B', got {self.shortcut!r}; take one of them"
            )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        block = partial(
            BasicBlock, shortcut=self.shortcut, dtype=self.dtype, axis_name=self.axis_name
        )
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        hidden = convolution("stem_conv", self.width, 3, dtype=self.dtype)(images)
        hidden = nn.relu(norm("stem_bn")(hidden))
        for stage in range(3):
            for index in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                name = f"stage{stage + 1}_block{index}"
                hidden = block(self.width * 2**stage, stride, name=name)(hidden, train)
        pooled = jnp.mean(hidden, axis=(1, 2))
        head = nn.Dense(
            self.num_classes, kernel_init=he_fan_in, dtype=self.dtype, name="classifier"
        )
        return output_logits(head(pooled))
