"""EfficientNet-Lite0: inverted residual blocks without squeeze-and-excitation, for ImageNet."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import he_fan_out, pooled_logits

__all__ = ["EfficientNetLite", "LiteBlock"]

# Table 1 of the paper: expansion, window, stride of the first block, channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _convolution(
    name: str,
    features: int,
    window: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dtype: DTypeLike | None,
) -> nn.Conv:
    """Make a square convolution padded as TensorFlow does, the far side more at stride 2."""
    return nn.Conv(
        features,
        (window, window),
        (stride, stride),
        padding="SAME",
        feature_group_count=groups,
        use_bias=False,
        kernel_init=he_fan_out,
        dtype=dtype,
        name=name,
    )


def _norm(
    name: str, *, train: bool, dtype: DTypeLike | None, axis_name: str | None
) -> nn.BatchNorm:
    return nn.BatchNorm(
        not train,
        momentum=0.9,
        epsilon=1e-3,
        dtype=dtype,
        axis_name=axis_name,
        name=name,
    )


class LiteBlock(nn.Module):
    """Expand by a 1x1, filter each channel, project by a 1x1; add the input if shapes agree.

    Example:
        >>> block = LiteBlock(features=4, expansion=2, window=5, stride=2)
        >>> init = partial(block.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jax.numpy.ones([1, 4, 4, 4]))
        >>> variables["params"]["depthwise_conv"]["kernel"].shape
        (5, 5, 1, 8)
    """

    features: int
    expansion: int
    window: int
    stride: int
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height/s, width/s, features]`."""
        conv = partial(_convolution, dtype=self.dtype)
        norm = partial(_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        wide, hidden = images.shape[-1] * self.expansion, images
        if self.expansion > 1:
            hidden = nn.relu6(norm("expand_bn")(conv("expand_conv", wide, 1)(hidden)))
        filters = conv("depthwise_conv", wide, self.window, stride=self.stride, groups=wide)
        hidden = nn.relu6(norm("depthwise_bn")(filters(hidden)))
        hidden = norm("project_bn")(conv("project_conv", self.features, 1)(hidden))
        return images + hidden if images.shape == hidden.shape else hidden


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, after Tan and Le 2019 (arXiv:1905.11946), table 1.

    Published weights are for 224x224 images and inputs (x - 127) / 128;
    `artifact.load_efficientnet_lite` reads them. Where it differs from EfficientNet-B0: ReLU6
    instead of swish, no squeeze-and-excitation, no drop of whole blocks.

    Attributes:
        num_classes: width of the logits.
        dropout: rate before the classifier, drawn from the rng stream `dropout`.
        dtype: of the computation; None takes what images and variables promote to (float32).
        axis_name: mapped axis over which batch statistics are averaged.

    Example:
        >>> init = partial(EfficientNetLite().init_with_output, train=False)
        >>> logits, variables = jax.eval_shape(
        ...     init, jax.random.key(0), jax.numpy.ones([1, 64, 64, 3])
        ... )
        >>> logits.shape, variables["params"]["head_conv"]["kernel"].shape
        ((1, 1000), (1, 1, 320, 1280))
    """

    num_classes: int = 1000
    dropout: float = 0.2
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, 3]` to logits `[batch, num_classes]`."""
        conv = partial(_convolution, dtype=self.dtype)
        norm = partial(_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        hidden = nn.relu6(norm("stem_bn")(conv("stem_conv", 32, 3, stride=2)(images)))
        hidden = self._blocks(hidden, train)
        hidden = nn.relu6(norm("head_bn")(conv("head_conv", 1280, 1)(hidden)))
        return pooled_logits(
            hidden, self.num_classes, dropout=self.dropout, train=train, dtype=self.dtype
        )

    def _blocks(self, hidden: jax.Array, train: bool) -> jax.Array:
        """Apply the blocks, numbered through all stages: `block0` to `block15`."""
        number = 0
        for expansion, window, first, features, blocks in STAGES:
            for index in range(blocks):
                stride = 1 if index else first
                shape = features, expansion, window, stride, self.dtype, self.axis_name
                hidden = LiteBlock(*shape, name=f"block{number}")(hidden, train)
                number += 1
        return hidden
