"""Toys about how leaves are used: shared, tied, cast, multiplied, beside constants and dropout."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.toys.record import Toy, draw, initial, rows

__all__ = ["PERCEPTRON", "ROWS", "TOYS", "WIDTHS"]

ROWS = rows(3, 4)
PERCEPTRON = {"first": (4, 6), "first_bias": (6,), "second": (6, 5), "third": (5, 2)}
WIDTHS = {"first[1]": 6, "second[1]": 5}


def dropout() -> Toy:
    """Dropout draws one bit per channel: the bits must not depend on the keep."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            hidden = nn.relu(nn.Dense(6)(inputs))
            hidden = nn.Dropout(0.4, deterministic=not train)(hidden)
            hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(hidden))
            return nn.Dense(2)(nn.Dropout(0.4, deterministic=not train)(nn.relu(hidden)))

    module = Network()
    variables = initial(module, ROWS, train=False)

    def train_apply(variables: Any, inputs: jax.Array, key: jax.Array) -> Any:
        rngs = {"dropout": key}
        return module.apply(variables, inputs, train=True, mutable=["batch_stats"], rngs=rngs)

    def apply(variables: Any, inputs: jax.Array, key: jax.Array) -> Any:
        return module.apply(variables, inputs, train=False)

    groups = {"params/Dense_0/kernel[1]": 6, "params/Dense_1/kernel[1]": 5}
    return Toy(apply, variables, (ROWS, jax.random.key(5)), groups, train_apply)


def weight_sharing() -> Toy:
    """The same kernel twice: input and output channels become one group."""
    shapes = {"embed": (4, 6), "shared": (6, 6), "bias": (6,), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["embed"])
        for _ in range(2):
            hidden = jnp.tanh(hidden @ variables["shared"] + variables["bias"])
        return hidden @ variables["head"]

    return Toy(apply, draw(1, shapes), (ROWS,), {"embed[1]": 6})


def tied_autoencoder() -> Toy:
    """A decoder that is the encoder transposed."""
    shapes = {"encode": (4, 6), "bias": (6,)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return jax.nn.relu(inputs @ variables["encode"] + variables["bias"]) @ variables["encode"].T

    return Toy(apply, draw(2, shapes), (ROWS,), {"encode[1]": 6})


def bfloat16() -> Toy:
    """Computed in bfloat16 from float32 leaves."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            hidden = nn.gelu(nn.Dense(6, dtype=jnp.bfloat16)(inputs))
            hidden = nn.relu(nn.Dense(5, dtype=jnp.bfloat16)(hidden))
            return nn.Dense(2, dtype=jnp.bfloat16)(hidden).astype(jnp.float32)

    module = Network()
    variables = initial(module, ROWS)
    groups = {"params/Dense_0/kernel[1]": 6, "params/Dense_1/kernel[1]": 5}
    return Toy(module.apply, variables, (ROWS,), groups, tolerance=2e-2)


def closed_constant() -> Toy:
    """A constant array with one entry per channel is cut like a leaf."""
    scale, table = jnp.linspace(0.5, 2.0, 6), jnp.arange(30.0).reshape(6, 5) / 30

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ variables["first"] + variables["first_bias"]) * scale
        hidden = jax.nn.relu(hidden @ (variables["second"] * table))
        return hidden @ variables["third"]

    return Toy(apply, draw(3, PERCEPTRON), (ROWS,), WIDTHS, symmetric=False)


def kernel_left() -> Toy:
    """einsum with the kernel as the left operand, outputs first."""
    shapes = {"first": (6, 4), "second": (2, 3, 6), "head": (2, 3, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(jnp.einsum("oi,bi->ob", variables["first"], inputs))
        hidden = jnp.tanh(jnp.einsum("jki,ib->bjk", variables["second"], hidden))
        return jnp.einsum("jko,bjk->bo", variables["head"], hidden)

    return Toy(apply, draw(4, shapes), (ROWS,), {"first[0]": 6, "second[0]": 2, "second[1]": 3})


def low_rank() -> Toy:
    """The kernel is a product of two leaves, so its rank is a group too."""
    shapes = {"down": (4, 3), "up": (3, 6), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ (variables["down"] @ variables["up"]))
        return hidden @ variables["head"]

    return Toy(apply, draw(5, shapes), (ROWS,), {"down[1]": 3, "up[1]": 6}, shared=("down[1]",))


TOYS = (
    dropout,
    weight_sharing,
    tied_autoencoder,
    bfloat16,
    closed_constant,
    kernel_left,
    low_rank,
)
