"""Network in Network for 32x32 images: three stages of one wide and two 1x1 convolutions."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import convolution, output_logits

__all__ = ["NetworkInNetwork"]


class NetworkInNetwork(nn.Module):
    """Network in Network of Lin et al. 2013 (arXiv:1312.4400), as SlimNets' student has it.

    5x5, 1x1, 1x1, max pooling, dropout; 5x5, 1x1, 1x1, average pooling, dropout; 3x3, 1x1, 1x1,
    average over the image: a relu after every convolution, the last one too, and no batch norm.
    966,986 parameters (SlimNets, arXiv:1808.00496). Kernels start as He et al. 2015 propose; the
    original starts from PyTorch's default.

    Attributes:
        num_classes: width of the logits.
        width: channels of the wide convolutions; the second has 5/6 and the third 1/2 of it.
        dropout: rate of the two dropouts, drawn from the rng stream `dropout`.
        dtype: of the computation; None takes what images and variables promote to (float32).

    Raises:
        ValueError: if `width` is no multiple of 6.

    Example:
        >>> module = NetworkInNetwork(width=6)
        >>> init = partial(module.init_with_output, train=False)
        >>> images = jax.ShapeDtypeStruct([1, 32, 32, 3], "float32")
        >>> jax.eval_shape(init, jax.random.key(0), images)[0].shape
        (1, 10)
    """

    num_classes: int = 10
    width: int = 192
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        if self.width < 6 or self.width % 6:
            raise ValueError(f"width must be a positive multiple of 6, got {self.width}; round it")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        wide = self.width
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        window = {"window_shape": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
        hidden = self._stage(images, 1, 5, (wide, wide * 5 // 6, wide // 2))
        hidden = dropout()(nn.max_pool(hidden, **window))
        hidden = self._stage(hidden, 2, 5, (wide, wide, wide))
        hidden = dropout()(nn.avg_pool(hidden, **window))
        hidden = self._stage(hidden, 3, 3, (wide, wide, self.num_classes))
        return output_logits(hidden.mean(axis=(1, 2)))

    def _stage(
        self, hidden: jax.Array, stage: int, window: int, widths: tuple[int, int, int]
    ) -> jax.Array:
        for index, (features, size) in enumerate(zip(widths, (window, 1, 1), strict=True), 1):
            module = convolution(
                f"stage{stage}_conv{index}", features, size, use_bias=True, dtype=self.dtype
            )
            hidden = nn.relu(module(hidden))
        return hidden
