"""Rounds of scoring: one compiled step, called from the host or, under jit, in a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from jaxcompress.annotations import PyTree
from jaxcompress.compiled import entry, stacked

__all__ = ["map_rounds"]


def map_rounds(step: Callable[[Any], Any], inputs: PyTree) -> PyTree:
    """Stack the results of `step` on every entry of the leading axis.

    XLA for CPU leaves gradients of convolutions inside loops in a layout for which it has no fast
    kernel (in our measurement they take 9 times as long), so the loop is the host's where it can.

    Args:
        step: a compiled function of one entry.
        inputs: pytree of arrays `[rounds, ...]`; traced ones make a `lax.map`.

    Example:
        >>> map_rounds(lambda batch: batch["x"] * 2, {"x": jax.numpy.arange(3)}).tolist()
        [0, 2, 4]
    """
    leaves = jax.tree.leaves(inputs)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return lax.map(step, inputs)
    return stacked([step(entry(inputs, i)) for i in range(len(leaves[0]))])
