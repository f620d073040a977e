"""Functions of one's own: a plain model, one that is none, some that fail, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]) @ variables["b"]


def make() -> Any:
    first, second = jax.random.split(jax.random.key(0))
    variables = {"a": jax.random.normal(first, (6, 256)), "b": jax.random.normal(second, (256, 3))}
    return apply, variables, jnp.zeros((1, 6))


def batches() -> Iterator[np.ndarray]:
    for seed in range(4):
        yield np.random.default_rng(seed).normal(size=(32, 6)).astype(np.float32)


def other_batches() -> Iterator[dict[str, np.ndarray]]:
    yield {"imag": np.ones((32, 6), np.float32)}


def breaking_batches() -> Iterator[np.ndarray]:
    yield np.ones((32, 6), np.float32)
    raise OSError("the disk is gone")


def wrong() -> int:
    return 3


def failing() -> Any:
    return {"a": 1}["weights"]
