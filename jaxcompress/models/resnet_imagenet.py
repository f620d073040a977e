"""Bottleneck residual networks for ImageNet, version 1.5: the 3x3 convolution has the stride."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import batch_norm, convolution, he_fan_out, output_logits

__all__ = ["Bottleneck", "ImageNetResNet"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions to `features`, `features` and 4 x `features`, and a shortcut.

    Example:
        >>> import jax.numpy as jnp
        >>> init = partial(Bottleneck(features=2, stride=2).init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 4, 4, 4]))
        >>> variables["params"]["conv3"]["kernel"].shape
        (1, 1, 2, 8)
    """

    features: int
    stride: int = 1
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height/s, width/s, 4 features]`."""
        conv = partial(convolution, kernel_init=he_fan_out, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        hidden = nn.relu(norm("bn1")(conv("conv1", self.features, 1)(images)))
        hidden = conv("conv2", self.features, 3, stride=self.stride)(hidden)
        hidden = conv("conv3", 4 * self.features, 1)(nn.relu(norm("bn2")(hidden)))
        hidden = norm("bn3")(hidden)
        carried = images
        if carried.shape != hidden.shape:
            carried = conv("shortcut_conv", 4 * self.features, 1, stride=self.stride)(images)
            carried = norm("shortcut_bn")(carried)
        return nn.relu(hidden + carried)


class ImageNetResNet(nn.Module):
    """Residual network of He et al. 2016 (arXiv:1512.03385), table 1, as torchvision has it.

    ResNet-50 has 25,557,032 parameters and 4.09 G multiply-accumulates at 224 x 224.

    Attributes:
        depth: 50, 101 or 152.
        num_classes: width of the logits.
        width: channels of the first stage's blocks.
        dtype: of the computation; None for that of images and variables.
        axis_name: mapped axis over which batch statistics are averaged.

    Example:
        >>> ImageNetResNet(depth=50).num_classes
        1000
    """

    depth: int
    num_classes: int = 1000
    width: int = 64
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map images `[batch, height, width, 3]` to logits `[batch, classes]`."""
        if self.depth not in BLOCKS:
            raise ValueError(f"depth must be one of {sorted(BLOCKS)}, but is {self.depth}")
        stem = convolution(
            "stem_conv", self.width, 7, stride=2, kernel_init=he_fan_out, dtype=self.dtype
        )
        norm = batch_norm("stem_bn", train=train, dtype=self.dtype, axis_name=self.axis_name)
        hidden = nn.relu(norm(stem(images)))
        hidden = nn.max_pool(hidden, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for index in range(blocks):
                hidden = Bottleneck(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"stage{stage + 1}_block{index}",
                )(hidden, train)
        pooled = hidden.mean(axis=(1, 2))
        return output_logits(
            nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(pooled)
        )
