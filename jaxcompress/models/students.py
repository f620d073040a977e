"""The other students of SlimNets: LeNet-like networks and an AlexNet for 32x32 images."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import he_fan_in, output_logits

__all__ = ["AlexNet", "LeNet"]


class LeNet(nn.Module):
    """5x5 convolutions of 6 and 16, each with relu and max pooling, then dense layers.

    SlimNets (arXiv:1808.00496) calls it SNN-h with one hidden dense layer of h, and CNN-h with a
    second one of 84: `snn_1k`, `snn_10k`, `cnn_1k` and `cnn_10k` in the registry.

    Attributes:
        num_classes: width of the logits.
        hidden: widths of the hidden dense layers.
        dtype: of the computation; None takes what images and variables promote to (float32).

    Example:
        >>> module = LeNet(hidden=(8,))
        >>> init = partial(module.init_with_output, train=False)
        >>> images = jax.ShapeDtypeStruct([1, 32, 32, 3], "float32")
        >>> jax.eval_shape(init, jax.random.key(0), images)[0].shape
        (1, 10)
    """

    num_classes: int = 10
    hidden: tuple[int, ...] = (1000,)
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        del train
        layer = partial(nn.Conv, padding="VALID", kernel_init=he_fan_in, dtype=self.dtype)
        hidden = images
        for index, features in enumerate((6, 16), 1):
            hidden = nn.relu(layer(features, (5, 5), name=f"conv{index}")(hidden))
            hidden = nn.max_pool(hidden, (2, 2), strides=(2, 2))
        hidden = hidden.reshape([hidden.shape[0], -1])
        dense = partial(nn.Dense, dtype=self.dtype)
        for index, features in enumerate(self.hidden, 1):
            hidden = nn.relu(dense(features, kernel_init=he_fan_in, name=f"fc{index}")(hidden))
        return output_logits(dense(self.num_classes, name="classifier")(hidden))


class AlexNet(nn.Module):
    """Five convolutions and one dense layer: AlexNet for 32x32 images, as SlimNets' code has it.

    11x11 with stride 4, 5x5, and three 3x3 of 64, 192, 384, 256 and 256 channels, with a max
    pooling after the first, second and last. The paper (arXiv:1808.00496) counts six layers.

    Attributes:
        num_classes: width of the logits.
        width: channels of the first convolution; the others have 3, 6, 4 and 4 times as many.
        dtype: of the computation; None takes what images and variables promote to (float32).

    Example:
        >>> module = AlexNet(width=2)
        >>> init = partial(module.init_with_output, train=False)
        >>> images = jax.ShapeDtypeStruct([1, 32, 32, 3], "float32")
        >>> jax.eval_shape(init, jax.random.key(0), images)[0].shape
        (1, 10)
    """

    num_classes: int = 10
    width: int = 64
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        del train
        layer = partial(nn.Conv, kernel_init=he_fan_in, dtype=self.dtype)
        pool = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
        wide = self.width
        hidden = nn.relu(layer(wide, (11, 11), strides=4, padding=5, name="conv1")(images))
        hidden = nn.relu(layer(3 * wide, (5, 5), padding=2, name="conv2")(pool(hidden)))
        hidden = pool(hidden)
        for index, features in enumerate((6 * wide, 4 * wide, 4 * wide), 3):
            hidden = nn.relu(layer(features, (3, 3), padding=1, name=f"conv{index}")(hidden))
        hidden = pool(hidden).reshape([images.shape[0], -1])
        return output_logits(
            nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(hidden)
        )
