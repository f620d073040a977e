"""Toys whose variables are the state of an NNX or an Equinox module."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
from flax import nnx

from tests.toys.leaves import ROWS
from tests.toys.record import Toy, randomised

__all__ = ["TOYS"]


def nnx_model() -> Toy:
    """An NNX model: nnx.split gives a state of parameters and statistics."""

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(4, 6, rngs=rngs)
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.second = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, inputs: jax.Array) -> jax.Array:
            return self.second(nnx.relu(self.norm(self.first(inputs))))

    model = Network(nnx.Rngs(0))
    definition, state = nnx.split(model)

    def run(variables: Any, inputs: jax.Array, train: bool) -> Any:
        network = nnx.merge(definition, variables)
        network.train() if train else network.eval()
        output = network(inputs)
        return output, nnx.split(network)[1]

    def apply(variables: Any, inputs: jax.Array) -> Any:
        return run(variables, inputs, False)[0]

    train_apply = partial(run, train=True)
    return Toy(apply, randomised(state), (ROWS,), {"first/kernel[1]": 6}, train_apply)


def equinox_model() -> Toy:
    """An Equinox model: eqx.partition gives its arrays; vmap makes the batch."""
    keys = jax.random.split(jax.random.key(0), 2)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(4, 6, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MLP(6, 2, width_size=5, depth=1, key=keys[1]),
        ]
    )
    arrays, static = eqx.partition(model, eqx.is_array)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(variables, static))(inputs)

    groups = {"layers/0/weight[0]": 6, "layers/2/layers/0/weight[0]": 5}
    return Toy(apply, arrays, (ROWS,), groups)


TOYS = (nnx_model, equinox_model)
