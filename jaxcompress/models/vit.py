"""A small vision transformer: patches become tokens, blocks mix them, a head reads their mean."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import check_heads, output_logits

__all__ = ["TransformerBlock", "VisionTransformer"]


class TransformerBlock(nn.Module):
    """Pre-norm block: `x = x + attention(norm1(x))`, then `x = x + mlp(norm2(x))`.

    Example:
        >>> block = TransformerBlock(heads=2, mlp_width=16)
        >>> init = partial(block.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3, 8]))
        >>> variables["params"]["attention"]["query"]["kernel"].shape
        (8, 2, 4)
    """

    heads: int
    mlp_width: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        """Map tokens `[batch, tokens, width]` to the same shape."""
        norm = partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            num_heads=self.heads, dtype=self.dtype, name="attention"
        )
        tokens = tokens + drop(attention(norm(name="norm1")(tokens)))
        hidden = dense(self.mlp_width, name="mlp_expand")(norm(name="norm2")(tokens))
        hidden = nn.gelu(hidden, approximate=False)
        return tokens + drop(dense(tokens.shape[-1], name="mlp_project")(hidden))


class VisionTransformer(nn.Module):
    """Vision transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1.

    The defaults are ViT-Tiny (width 192, depth 12, 3 heads) on patches of 4x4 for 32x32 images.

    Attributes:
        num_classes: width of the logits.
        patch_size: pixels per side of a patch; the sides of the images are multiples of it.
        width: features of a token; a multiple of `heads`.
        depth: transformer blocks.
        heads: attention heads of a block.
        mlp_ratio: width of the hidden layer of a block's perceptron over `width`.
        class_token: read the logits from an extra token instead of the mean of all tokens.
        dropout: rate after attention and perceptron, drawn from the rng stream `dropout`.
        dtype: of the computation; None takes what images and variables promote to (float32).

    Raises:
        ValueError: if `width` is no multiple of `heads`, or an image side none of `patch_size`.

    Example:
        >>> module = VisionTransformer(width=8, depth=1, heads=2, patch_size=4)
        >>> init = partial(module.init, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 8, 8, 3]))
        >>> variables["params"]["position_embedding"].shape
        (1, 4, 8)
    """

    num_classes: int = 10
    patch_size: int = 4
    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: float = 4.0
    class_token: bool = False
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        check_heads(self.width, self.heads)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        tokens = self._embed(images)
        mlp_width = int(self.width * self.mlp_ratio)
        for index in range(self.depth):
            block = TransformerBlock(
                self.heads, mlp_width, self.dropout, self.dtype, name=f"block{index}"
            )
            tokens = block(tokens, train)
        tokens = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="final_norm")(tokens)
        pooled = tokens[:, 0] if self.class_token else jnp.mean(tokens, axis=1)
        classifier = nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")
        return output_logits(classifier(pooled))

    def _embed(self, images: jax.Array) -> jax.Array:
        """Cut `images` into patches and give each a token `[batch, tokens, width]` with a place."""
        height, width = images.shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"image sides must be multiples of patch_size {self.patch_size}, "
                f"got {height}x{width}; pad or resize the images"
            )
        patch = (self.patch_size, self.patch_size)
        embed = nn.Conv(
            self.width, patch, strides=patch, padding="VALID", dtype=self.dtype, name="patch_conv"
        )
        tokens = embed(images).reshape([images.shape[0], -1, self.width])
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
            shape = (images.shape[0], 1, self.width)
            tokens = jnp.concatenate(
                [jnp.broadcast_to(token, shape).astype(tokens.dtype), tokens], axis=1
            )
        place = self.param(
            "position_embedding", nn.initializers.normal(0.02), (1, tokens.shape[1], self.width)
        )
        return tokens + place.astype(tokens.dtype)
