"""Averages of batches' statistics, put in the place of the running ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import PyTree
from jaxcompress.graph.trainable import Leaves, replace_leaves
from jaxcompress.per_device import AxisName, average
from jaxcompress.training.running_checks import Checks
from jaxcompress.training.running_layers import Running
from jaxcompress.training.running_updates import PROBE, STEP, Plan

__all__ = ["renewed"]


def renewed(
    variables: PyTree,
    plan: Plan,
    probed: Leaves,
    updates: Leaves,
    weights: jax.Array | None,
    axis_name: AxisName,
) -> tuple[Any, Checks]:
    """Replace the statistics by what the updates `[steps, ...]` say of the batches."""
    leaves, layers, paths, wide = plan
    probed = average(probed, axis_name)
    momenta = {path: leaf[0] / PROBE for path, leaf in probed.items()}
    batch = {path: _batch(updates[path], momenta[path]) for path in paths}
    averages = _averages(batch, layers, weights, axis_name)
    for layer in layers:
        for path in layer[:2]:
            if path is not None and layer.batches is not None:
                averages[path] *= _weight(momenta[path], leaves[layer.batches])
    exact = {path: _is_exact(probed[path]) for path in paths}
    # A momentum of NaN, from a first batch with NaN, is not one that keeps its statistics.
    kept = {p: jnp.where(momenta[p] >= 1, wide[p], averages[p]) for p in paths}
    kept = {path: jnp.where(exact[path], kept[path], jnp.nan) for path in paths}
    new = {path: kept[path].astype(leaves[path].dtype) for path in paths}
    finite = {p: jnp.isfinite(x).all(range(1, x.ndim)) for p, x in updates.items()}
    fits = {p: (jnp.isfinite(new[p]) | ~jnp.isfinite(kept[p])).all() for p in paths}
    every = {path: flags.all() for path, flags in exact.items()}
    return replace_leaves(variables, new), Checks(finite, every, fits)


def _is_exact(probed: jax.Array) -> jax.Array:
    """Whether updates `[2, ...]` from both probes are m times these, up to float32's rounding."""
    momentum = probed[0] / PROBE
    slope = (probed[1] - probed[0]) / (STEP * PROBE)
    return jnp.abs(slope - momentum) <= jnp.abs(momentum) / 64 + 1e-9


def _weight(momentum: jax.Array, count: jax.Array) -> jax.Array:
    """Return by what evaluation divides: 1 - m ** count, or 1 before the first batch."""
    return jnp.where(count == 0, 1.0, 1 - momentum**count)


def _batch(update: jax.Array, momentum: jax.Array) -> jax.Array:
    """Recover batch statistics `[steps, ...]` from updates (1 - m) * batch."""
    return update.astype(jnp.float32) / jnp.where(momentum < 1, 1 - momentum, 1)


def _averages(
    batch: Leaves, layers: Sequence[Running], weights: jax.Array | None, axis_name: AxisName
) -> Leaves:
    """Average means and variances `[steps, ...]` by the law of total variance."""

    def mean_of(leaf: jax.Array) -> jax.Array:
        return leaf.mean(0) if weights is None else jnp.tensordot(weights, leaf, 1)

    averages = average({path: mean_of(leaf) for path, leaf in batch.items()}, axis_name)
    for mean, var, _ in layers:
        if var is not None:
            spread = mean_of(jnp.square(batch[mean] - averages[mean]))
            averages[var] += average(spread, axis_name)
    return averages
