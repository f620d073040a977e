"""Normalisations of PyTorch in JAX, each as sums that are divided by literal counts.

torchax has its own, but its BatchNorm leaves the running statistics as they are, its GroupNorm
merges examples with groups, and its variances divide by a count that a subtraction made, which
hides from `trace` that it is a mean over channels. Sums are taken in float32 at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.nn import functional

from jaxcompress.adapters.torchax_import import Tensor
from jaxcompress.annotations import Array, Function

__all__ = ["NORMS"]


def _wide(inputs: Tensor) -> Array:
    x: Array = inputs.jax()
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moments(x: Array, axes: Sequence[int]) -> tuple[Array, Array]:
    """Return mean and variance, summed axes kept with size 1."""
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def _standardised(x: Array, moments: tuple[Array, Array], eps: float) -> Array:
    return (x - moments[0]) * jax.lax.rsqrt(moments[1] + eps)


def _scaled(
    x: Array, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int], inputs: Tensor
) -> Tensor:
    """Scale and shift by vectors of the given shape; return a tensor of the inputs' type."""
    if weight is not None:
        x = x * weight.jax().reshape(shape)
    if bias is not None:
        x = x + bias.jax().reshape(shape)
    return Tensor(x.astype(inputs.jax().dtype), inputs._env)


def _batch_norm(
    inputs: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel, axis 1, by the batch's statistics or by the running ones.

    In training, mean <- (1 - m) mean + m E[x] and var <- (1 - m) var + m Var[x] n / (n - 1).
    """
    x = _wide(inputs)
    shape = (1, x.shape[1], *[1] * (x.ndim - 2))
    if training or mean is None or var is None:
        used = _moments(x, (0, *range(2, x.ndim)))
        count = x.size // x.shape[1]
        if mean is not None and var is not None:
            _follow(mean, used[0], momentum)
            _follow(var, used[1] * (count / max(count - 1, 1)), momentum)
    else:
        used = mean.jax().reshape(shape), var.jax().reshape(shape)
    return _scaled(_standardised(x, used, eps), weight, bias, shape, inputs)


def _follow(running: Tensor, batch: Array, momentum: float) -> None:
    old = running.jax()
    new = (1 - momentum) * old + momentum * batch.reshape(old.shape)
    running.apply_jax_(lambda _: new.astype(old.dtype))


def _batch_norm_operator(
    inputs: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """Take the arguments as `torch.batch_norm` orders them."""
    del cudnn_enabled
    return _batch_norm(inputs, mean, var, weight, bias, training, momentum, eps)


def _layer_norm(
    inputs: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Normalise each example over its last axes."""
    del cudnn_enable
    x, shape = _wide(inputs), tuple(normalized_shape)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return _scaled(_standardised(x, _moments(x, axes), eps), weight, bias, shape, inputs)


def _group_norm(
    inputs: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Normalise each group of channels, axis 1, of each example."""
    del cudnn_enabled
    x = _wide(inputs)
    grouped = x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    moments = _moments(grouped, tuple(range(2, grouped.ndim)))
    result = _standardised(grouped, moments, eps).reshape(x.shape)
    return _scaled(result, weight, bias, (1, x.shape[1], *[1] * (x.ndim - 2)), inputs)


NORMS: dict[Any, Function] = {
    functional.batch_norm: _batch_norm,
    torch.batch_norm: _batch_norm_operator,
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}
"""By PyTorch's function, what computes it on tensors that hold JAX arrays."""
