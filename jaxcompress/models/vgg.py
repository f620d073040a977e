"""VGG for 32x32 images: five stages of 3x3 convolutions, each ended by a pooling, and three
dense layers of 512, 512 and `num_classes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import batch_norm, convolution, he_fan_out, output_logits

__all__ = ["CONVOLUTIONS_PER_STAGE", "VGG"]

CONVOLUTIONS_PER_STAGE: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
)


class VGG(nn.Module):
    """VGG of Simonyan & Zisserman 2015 (arXiv:1409.1556), table 1, with the head used for CIFAR.

    The head is dropout, `fc1`, relu, dropout, `fc2`, relu, `classifier`, as in SlimNets
    (arXiv:1808.00496). Kernels of convolutions start from N(0, sqrt(2 / (k * k * C_out))).

    Attributes:
        depth: layers with weights: 11, 13, 16 or 19.
        num_classes: width of the logits.
        batch_norm: put a batch norm after every convolution.
        width: channels of the first stage; the stages have 1, 2, 4, 8, 8 times as many, and the
            dense layers 8 times.
        dropout: rate of the two dropouts, drawn from the rng stream `dropout`.
        dtype: of the computation; None takes what images and variables promote to (float32).
        axis_name: mapped axis over which batch statistics are averaged.

    Raises:
        ValueError: if `depth` is not one of the four, or images are smaller than 32x32.

    Example:
        >>> module = VGG(depth=11, width=2)
        >>> init = partial(module.init_with_output, train=False)
        >>> images = jax.ShapeDtypeStruct([1, 32, 32, 3], "float32")
        >>> logits, _ = jax.eval_shape(init, jax.random.key(0), images)
        >>> logits.shape
        (1, 10)
    """

    depth: int = 16
    num_classes: int = 10
    batch_norm: bool = False
    width: int = 64
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        if self.depth not in CONVOLUTIONS_PER_STAGE:
            choices = sorted(CONVOLUTIONS_PER_STAGE)
            raise ValueError(f"depth must be one of {choices}, got {self.depth}; take one of them")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        hidden = self._flat(images, train)
        dense = partial(nn.Dense, dtype=self.dtype)
        for name in ("fc1", "fc2"):
            hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
            hidden = nn.relu(dense(8 * self.width, name=name)(hidden))
        return output_logits(dense(self.num_classes, name="classifier")(hidden))

    def _flat(self, images: jax.Array, train: bool) -> jax.Array:
        """Run all convolutions and flatten what they leave."""
        if min(images.shape[1:3]) < 32:
            raise ValueError(
                "five poolings need images of 32x32 or more, "
                f"got {images.shape[1]}x{images.shape[2]}; enlarge them"
            )
        hidden = images
        for stage, convolutions in enumerate(CONVOLUTIONS_PER_STAGE[self.depth]):
            hidden = self._stage(hidden, stage, convolutions, train)
        return hidden.reshape([hidden.shape[0], -1])

    def _stage(self, hidden: jax.Array, stage: int, convolutions: int, train: bool) -> jax.Array:
        """Apply the convolutions of one stage, then halve the resolution."""
        features = self.width * min(2**stage, 8)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        for index in range(1, convolutions + 1):
            hidden = convolution(
                f"stage{stage + 1}_conv{index}",
                features,
                3,
                use_bias=True,
                kernel_init=he_fan_out,
                dtype=self.dtype,
            )(hidden)
            if self.batch_norm:
                hidden = norm(f"stage{stage + 1}_bn{index}")(hidden)
            hidden = nn.relu(hidden)
        return nn.max_pool(hidden, (2, 2), strides=(2, 2))
