"""A network of one normalisation between two kernels, and the law that it is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxcompress as jc
from tests.laws import close
from tests.toys.record import draw, rows

__all__ = [
    "INPUTS",
    "KEEP",
    "VARIABLES",
    "WIDTH",
    "Norm",
    "check_law",
    "network",
    "scanned",
    "total",
]

WIDTH = 16
Norm = Callable[[jax.Array], jax.Array]
INPUTS = rows(5, 3)
VARIABLES = draw(1, {"a": (3, WIDTH), "b": (WIDTH, 2)})
KEEP = np.arange(WIDTH) % 8 < 4  # of two groups of eight, four each; as a whole, half


def network(norm: Norm) -> Callable[[Any, jax.Array], jax.Array]:
    return lambda variables, x: norm(x @ variables["a"]) @ variables["b"]


def check_law(graph: jc.Graph, apply: Any, keep: np.ndarray, loops: bool = False) -> Any:
    """Hold that removing is masking, also by gates per example; return the smaller output."""
    (name,), variables = graph.groups, VARIABLES
    prune, gates = jc.shrink(graph, {name: keep}), jnp.asarray(keep, jnp.float32)
    small = jax.jit(prune.function(apply))(prune.variables(variables), INPUTS)
    masked = jax.jit(jc.gated(graph, apply))
    close(masked(variables, {name: gates}, INPUTS), small, 2e-5)
    if not loops:  # in a loop over examples, a sum has no axis of them
        close(masked(variables, {name: jnp.tile(gates, (len(INPUTS), 1))}, INPUTS), small, 2e-5)
    assert np.isfinite(small).all()
    return small


@jax.jit
def total(x: jax.Array) -> jax.Array:
    return x.sum(-1, keepdims=True)


def scanned(x: jax.Array, start: Any = 0.0) -> jax.Array:
    totals = lax.scan(lambda state, row: (state, row.sum()), start, x)[1]
    return totals[:, None] / x.shape[-1]
