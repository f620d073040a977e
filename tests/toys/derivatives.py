"""Toys with derivative rules of the user, and with values that are computed again."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.toys.leaves import PERCEPTRON, ROWS, WIDTHS
from tests.toys.record import Toy, draw, initial

__all__ = ["TOYS"]


def perceptron(activation: Any, seed: int, **claims: Any) -> Toy:
    """Three dense layers with one activation."""

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = activation(inputs @ variables["first"] + variables["first_bias"])
        return activation(hidden @ variables["second"]) @ variables["third"]

    return Toy(apply, draw(seed, PERCEPTRON), (ROWS,), WIDTHS, **claims)


def user_jvp() -> Toy:
    """An activation whose derivative the user chose: 1 at the kink, 0.25 on the left."""

    @jax.custom_jvp
    def activation(hidden: jax.Array) -> jax.Array:
        return jnp.maximum(hidden, 0.0)

    @activation.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (hidden,), (tangent,) = primals, tangents
        return activation(hidden), jnp.where(hidden >= 0, 1.0, 0.25) * tangent

    return perceptron(activation, 6)


def straight_through() -> Toy:
    """Rounding that lets gradients pass: differentiated as it stands they would all be 0."""

    @jax.custom_vjp
    def rounded(hidden: jax.Array) -> jax.Array:
        return jnp.round(4 * hidden) / 4

    rounded.defvjp(lambda hidden: (rounded(hidden), hidden > 0), lambda up, ct: (ct * (1.0 + up),))
    return perceptron(rounded, 7)


def rematerialised() -> Toy:
    """jax.checkpoint with a policy, nested."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 2)}

    @partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    def block(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ variables["first"])
        return jax.checkpoint(jnp.tanh)(hidden @ variables["second"])

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return block(variables, inputs) @ variables["third"]

    return Toy(apply, draw(9, shapes), (ROWS,), WIDTHS)


def linen_remat() -> Toy:
    """nn.remat around a block with BatchNorm."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            return nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(inputs)))

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            return nn.Dense(2)(nn.remat(Block, static_argnums=(2,))()(inputs, train))

    module = Network()
    variables = initial(module, ROWS, train=False)

    def train_apply(variables: Any, inputs: jax.Array) -> Any:
        return module.apply(variables, inputs, train=True, mutable=["batch_stats"])

    apply = partial(module.apply, train=False)
    return Toy(
        apply, variables, (ROWS,), {"params/CheckpointBlock_0/Dense_0/kernel[1]": 6}, train_apply
    )


TOYS = (user_jvp, straight_through, rematerialised, linen_remat)
