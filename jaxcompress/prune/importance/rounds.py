"""Rounds of scoring: one compiled step, called from the host or, under jit, in a scan."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcompress.annotations import PyTree

__all__ = ["map_rounds"]


def map_rounds(step: Callable[[Any], Any], inputs: PyTree) -> PyTree:
    """Stack the results of `step` on every entry of the leading axis.

    XLA for CPU leaves gradients of convolutions inside loops in a layout for which it has no fast
    kernel (in our measurement they take 9 times as long), so the loop is the host's where it can.

    Args:
        step: a compiled function of one entry.
        inputs: pytree of arrays `[rounds, ...]`; traced ones make a `lax.map`.

    Example:
        >>> map_rounds(lambda batch: batch["x"] * 2, {"x": jnp.arange(3)}).tolist()
        [0, 2, 4]
    """
    leaves = jax.tree.leaves(inputs)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return lax.map(step, inputs)
    results = [step(jax.tree.map(itemgetter(i), inputs)) for i in range(len(leaves[0]))]
    return jax.tree.map(lambda *rounds: jnp.stack(rounds), *results)
