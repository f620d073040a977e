"""Three dots, and what each of them takes by hand."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.graph import Graph, trace
from jaxcompress.latency import Grid, LatencyTable, with_latency

__all__ = ["SCORES", "apply", "graph", "latency", "table", "timed", "variables"]

SHAPES = {"a": (3, 16), "b": (16, 32), "c": (32, 2)}


def apply(variables: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for name in ("a", "b"):
        x = jnp.tanh(x @ variables[name])
    return x @ variables["c"]


def variables(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def graph() -> Graph:
    return trace(apply, variables(), jnp.ones((4, 3)))


def table() -> LatencyTable:
    """Time in steps of eight outputs of each dot, and of sixteen inputs of the second."""
    wide, narrow = (8, 16, 24, 32), (8, 16)
    rows = np.array([1.0, 2.0, 3.0, 4.0])[:, None]
    second = Grid((wide, narrow), 1e-6 * rows * np.array([[3.0, 3.0]]))
    first, third = (
        Grid((narrow,), 1e-6 * np.array([1.0, 2.0])),
        Grid((wide,), 1e-6 * rows[:, 0]),
    )
    return LatencyTable("toy", "by hand", "float32", 4, {"a": first, "b": second, "c": third})


def timed() -> Graph:
    return with_latency(graph(), table())


def latency(widths: tuple[int, int]) -> float:
    return float(timed().cost.of("latency", np.asarray(widths)))


SCORES = {"a[1]": np.arange(16.0), "b[1]": np.arange(32.0) / 2}
