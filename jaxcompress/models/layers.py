"""Layers that the reference networks share, with PyTorch's conventions where Linen's differ.

Convolutions pad both sides alike (`SAME` pads the far side more at stride 2), and batch norm keeps
its statistics with momentum 0.9 and epsilon 1e-5, so that published weights carry over exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

__all__ = [
    "batch_norm",
    "check_heads",
    "convolution",
    "he_fan_in",
    "he_fan_out",
    "output_logits",
    "pooled_logits",
    "tokens_and_mask",
]

he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolution(
    name: str,
    features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: nn.initializers.Initializer = he_fan_in,
    dtype: DTypeLike | None = None,
) -> nn.Conv:
    """Make a square convolution padded by `kernel_size // 2` on every side.

    Maps `[batch, height, width, channels]` to `[batch, height / stride, width / stride, features]`.

    Example:
        >>> module = convolution("conv1", features=4, kernel_size=3, stride=2)
        >>> variables = module.init(jax.random.key(0), jnp.ones([1, 8, 8, 3]))
        >>> variables["params"]["kernel"].shape
        (3, 3, 3, 4)
    """
    return nn.Conv(
        features,
        kernel_size=(kernel_size, kernel_size),
        strides=(stride, stride),
        padding=kernel_size // 2,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        name=name,
    )


def batch_norm(
    name: str,
    *,
    train: bool,
    dtype: DTypeLike | None = None,
    axis_name: str | None = None,
) -> nn.BatchNorm:
    """Make a batch norm over the last axis; `train` says whether the batch's statistics are used.

    With `axis_name` the batch's statistics are averaged over that mapped axis (`jax.pmap`,
    `jax.vmap`, `jax.shard_map`). Running statistics move by
    `running = 0.9 * running + 0.1 * batch`.

    Example:
        >>> module = batch_norm("bn1", train=False)
        >>> variables = module.init(jax.random.key(0), jnp.ones([1, 2, 2, 4]))
        >>> sorted(variables["batch_stats"])
        ['mean', 'var']
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name,
        name=name,
    )


def output_logits(logits: jax.Array) -> jax.Array:
    """Return `logits` in float32 at least: a softmax in bfloat16 loses the digits that matter.

    Example:
        >>> output_logits(jnp.ones([1, 2], jnp.bfloat16)).dtype.name
        'float32'
    """
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def pooled_logits(
    images: jax.Array, num_classes: int, *, dropout: float, train: bool, dtype: DTypeLike | None
) -> jax.Array:
    """Average over the pixels, drop out and classify, inside a module's `nn.compact`.

    Maps `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    Example:
        >>> class Head(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, images):
        ...         return pooled_logits(images, 5, dropout=0.0, train=False, dtype=None)
        >>> logits, variables = Head().init_with_output(jax.random.key(0), jnp.ones([2, 4, 4, 3]))
        >>> logits.shape, sorted(variables["params"])
        ((2, 5), ['classifier'])
    """
    pooled = jnp.mean(images, axis=(1, 2))
    pooled = nn.Dropout(dropout, deterministic=not train)(pooled)
    kernel_init = nn.initializers.normal(0.01)
    classifier = nn.Dense(num_classes, kernel_init=kernel_init, dtype=dtype, name="classifier")
    return output_logits(classifier(pooled))


def check_heads(width: int, heads: int) -> None:
    """Raise unless a width can be split into as many heads.

    Example:
        >>> check_heads(width=8, heads=2)
    """
    if width % heads:
        raise ValueError(
            f"width must be a multiple of heads, got width {width} and heads {heads}; "
            f"take width {width // heads * heads or heads}"
        )


def tokens_and_mask(
    inputs: jax.Array | Mapping[str, jax.Array], positions: int | None = None
) -> tuple[jax.Array, jax.Array | None]:
    """Return the tokens `[batch, tokens]`, and which are no padding, None where all may be read.

    Raises:
        ValueError: if there are more tokens than `positions`.

    Example:
        >>> tokens, mask = tokens_and_mask(
        ...     {"tokens": jnp.ones([1, 2], int), "mask": jnp.ones([1, 2])}
        ... )
        >>> mask.dtype.name
        'bool'
    """
    tokens = inputs["tokens"] if isinstance(inputs, Mapping) else inputs
    mask = inputs.get("mask") if isinstance(inputs, Mapping) else None
    if positions is not None and tokens.shape[1] > positions:
        raise ValueError(
            f"a sequence has at most {positions} tokens, as many as there are positions, but has "
            f"{tokens.shape[1]}; cut it"
        )
    return tokens, None if mask is None else mask != 0
