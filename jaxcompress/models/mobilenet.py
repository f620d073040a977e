"""MobileNetV2: inverted residual blocks (widen 1x1, depthwise 3x3, narrow 1x1 without relu)."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import batch_norm, convolution, he_fan_out, pooled_logits

__all__ = ["InvertedResidual", "MobileNetV2", "scaled_width"]

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def scaled_width(channels: int, multiplier: float) -> int:
    """Scale `channels`, rounded to a multiple of 8 that is not below 90 % of the scaled number.

    Example:
        >>> [scaled_width(channels, 0.5) for channels in (32, 24, 320)]
        [16, 16, 160]
    """
    scaled = channels * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise 3x3, project by a 1x1; add the input if shapes agree.

    Example:
        >>> block = InvertedResidual(features=4, expansion=2)
        >>> init = partial(block.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jax.numpy.ones([1, 4, 4, 4]))
        >>> variables["params"]["depthwise_conv"]["kernel"].shape
        (3, 3, 1, 8)
    """

    features: int
    expansion: int
    stride: int = 1
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to `[batch, height/s, width/s, features]`."""
        conv = partial(convolution, kernel_init=he_fan_out, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        channels = images.shape[-1]
        wide = channels * self.expansion
        hidden = images
        if self.expansion != 1:
            hidden = nn.relu6(norm("expand_bn")(conv("expand_conv", wide, 1)(hidden)))
        hidden = conv("depthwise_conv", wide, 3, stride=self.stride, groups=wide)(hidden)
        hidden = nn.relu6(norm("depthwise_bn")(hidden))
        hidden = norm("project_bn")(conv("project_conv", self.features, 1)(hidden))
        same_shape = self.stride == 1 and channels == self.features
        return images + hidden if same_shape else hidden


class MobileNetV2(nn.Module):
    """MobileNetV2 of Sandler et al. 2018 (arXiv:1801.04381), table 2, laid out as in torchvision.

    The defaults are the ImageNet network for 224x224 images; for 32x32 images take
    `stem_stride=1, stage2_stride=1`, which leaves 4x4 pixels to the last stage.

    Attributes:
        num_classes: width of the logits.
        width_multiplier: scales every width (see `scaled_width`); the head never falls below 1280.
        stem_stride: stride of the first convolution.
        stage2_stride: stride of the second stage.
        dropout: rate before the classifier, drawn from the rng stream `dropout`.
        dtype: of the computation; None takes what images and variables promote to (float32).
        axis_name: mapped axis over which batch statistics are averaged.

    Example:
        >>> module = MobileNetV2(num_classes=10, stem_stride=1)
        >>> init = partial(module.init_with_output, train=False)
        >>> logits, variables = jax.eval_shape(
        ...     init, jax.random.key(0), jax.numpy.ones([1, 32, 32, 3])
        ... )
        >>> logits.shape, variables["params"]["head_conv"]["kernel"].shape
        ((1, 10), (1, 1, 320, 1280))
    """

    num_classes: int = 1000
    width_multiplier: float = 1.0
    stem_stride: int = 2
    stage2_stride: int = 2
    dropout: float = 0.2
    dtype: DTypeLike | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        conv = partial(convolution, kernel_init=he_fan_out, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        stem = scaled_width(32, self.width_multiplier)
        hidden = conv("stem_conv", stem, 3, stride=self.stem_stride)(images)
        hidden = nn.relu6(norm("stem_bn")(hidden))
        hidden = self._stages(hidden, train)
        head = scaled_width(1280, max(1.0, self.width_multiplier))
        hidden = nn.relu6(norm("head_bn")(conv("head_conv", head, 1)(hidden)))
        return pooled_logits(
            hidden, self.num_classes, dropout=self.dropout, train=train, dtype=self.dtype
        )

    def _stages(self, hidden: jax.Array, train: bool) -> jax.Array:
        """Apply the inverted residual blocks, named `stage{1..7}_block{0..}`."""
        block = partial(InvertedResidual, dtype=self.dtype, axis_name=self.axis_name)
        for stage, (expansion, channels, blocks, first_stride) in enumerate(STAGES, start=1):
            features = scaled_width(channels, self.width_multiplier)
            stage_stride = self.stage2_stride if stage == 2 else first_stride
            for index in range(blocks):
                stride = stage_stride if index == 0 else 1
                name = f"stage{stage}_block{index}"
                hidden = block(features, expansion, stride, name=name)(hidden, train)
        return hidden
