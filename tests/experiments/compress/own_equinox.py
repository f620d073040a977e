"""A network of one's own in Equinox, channels first, with BatchNorm."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax


class Net(eqx.Module):
    first: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    last: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        first, last = jax.random.split(key)
        self.first = eqx.nn.Conv2d(1, 8, 3, stride=2, key=first)
        self.norm = eqx.nn.BatchNorm(8, axis_name="batch", mode="batch")
        self.last = eqx.nn.Linear(8, 10, key=last)

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> Any:
        x, state = self.norm(self.first(x), state)
        return self.last(jax.nn.relu(x).mean((1, 2))), state


def make() -> Any:
    return eqx.nn.make_with_state(Net)(jax.random.key(0))
