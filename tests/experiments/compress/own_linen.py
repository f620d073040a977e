"""A network of one's own in Linen, with BatchNorm."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        for _ in range(2):
            x = nn.Conv(8, (3, 3), strides=2, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not training)(x))
        return nn.Dense(10)(nn.relu(nn.Dense(16)(x.mean((1, 2)))))


def make() -> Any:
    module, images = Net(), jnp.zeros((1, 8, 8, 1))
    return module, jax.jit(partial(module.init, training=False))(jax.random.key(0), images)


class Wide(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(128)(x))
        return nn.Dense(10)(x)


def make_wide() -> Any:
    """Return a network whose weights take more bytes than what describes them."""
    module, images = Wide(), jnp.zeros((1, 8, 8, 1))
    return module, jax.jit(module.init)(jax.random.key(0), images)
