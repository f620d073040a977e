"""Re-estimating BatchNorm's running statistics: exact averages over given batches.

Removing channels changes what later layers see, and running averages follow slowly. Training-mode
functions only show the running update ``new = m * old + (1 - m) * batch``; called with ``old = 0``
it yields ``(1 - m) * batch``, from which the batch's own statistics are recovered and averaged.
All of that is in float32: 0.99 is 0.988 in bfloat16, and 1 - 0.988 a fifth too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend import fast_if_large, is_alone
from jaxcompress.batches import are_stacked, one_by_one
from jaxcompress.compiled import jit_of, stacked
from jaxcompress.graph.trainable import Leaves
from jaxcompress.per_device import AxisName
from jaxcompress.training.running_averages import renewed
from jaxcompress.training.running_checks import Checks, check
from jaxcompress.training.running_layers import Running
from jaxcompress.training.running_updates import (
    PROBES,
    TrainApply,
    planned,
    updated,
    updates_of,
)

__all__ = ["TrainApply", "reestimate"]


def reestimate(
    train_apply: TrainApply,
    variables: PyTree,
    batches: Any,
    *,
    key: jax.Array,
    statistics: Sequence[Running] | None = None,
    axis_name: AxisName = None,
) -> PyTree:
    """Replace running means and variances by the statistics of `batches`.

    Each batch's mean_t and var_t are recovered from the update whatever its momentum m, and put
    together by the law of total variance::

        mean = E_t[mean_t]        var = E_t[var_t] + E_t[(mean_t - mean)^2]

    E_t weighs batches by their sizes.

    A BatchNorm behind others sees inputs normalised by each batch's own statistics, as in training.
    m is known to float32, so the result is exact to about 1e-7 / (1 - m) relative. Statistics in
    half precision are given to `train_apply` in float32, and rounded once, at the end.

    Args:
        train_apply: `train_apply(variables, images, key) -> (logits, new_state)` in training mode,
            e.g. Linen's `apply(..., mutable=["batch_stats"])`. Pass the same function object again
            and nothing is compiled twice.
        variables: the network's variables.
        batches: an iterable of batches, arrays (or trees) `[batch, ...]`, read once, of which only
            one is held; or one array (or tree) `[steps, batch, ...]`, sharded along `batch` or not.
        key: folded with the step number, for dropout.
        statistics: which leaves are running statistics; by default those named `mean` and `var`
            in `new_state`, as in Linen and NNX (Equinox: `adapters.equinox_statistics`).
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.
            A layer behind others sees inputs normalised by its device's own statistics, unless
            the module averages over the axis (Linen: `BatchNorm(axis_name=...)`).

    Returns:
        `variables` with those leaves replaced. A layer with momentum 1 keeps its statistics.

    Raises:
        ValueError: if `new_state` has no such leaves, or a `var` without its `mean`; if
            `train_apply` returns them rounded to half precision; if the statistics of a batch are
            NaN or infinite, if the update is another, or is rounded inside, or if the average is
            more than the leaf's dtype holds (under `jax.jit` these pass on as NaN or infinite).
        TypeError: if `train_apply` fails where statistics in half precision come in float32.

    Source:
        Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (PreciseBN).

    Example:
        >>> def train_apply(variables, images, key):
        ...     mean = 0.9 * variables["mean"] + 0.1 * images.mean()
        ...     return images, {"mean": mean, "var": 0.9 * variables["var"] + 0.1 * images.var()}
        >>> batches = jnp.array([[0.0, 2.0], [4.0, 6.0]])
        >>> variables = {"mean": jnp.float32(9.0), "var": jnp.float32(9.0)}
        >>> new = reestimate(train_apply, variables, batches, key=jax.random.key(0))
        >>> round(float(new["mean"]), 5), round(float(new["var"]), 5)
        (3.0, 5.0)
    """
    chosen = None if statistics is None else tuple(statistics)
    if are_stacked(batches):
        fast = axis_name is None and is_alone((variables, batches))
        renew = jit_of(_reestimate, train_apply, statistics=chosen, axis_name=axis_name, fast=fast)
        new, checks = renew(variables, batches, key)
    else:
        new, checks = _from_single(train_apply, variables, batches, key, chosen, axis_name)
    if not any(isinstance(flags, jax.core.Tracer) for flags in jax.tree.leaves(checks)):
        check(jax.device_get(checks))
    return new


def _reestimate(
    train_apply: TrainApply,
    statistics: tuple[Running, ...] | None,
    axis_name: AxisName,
    fast: bool,
) -> Callable[..., tuple[Any, Checks]]:
    """Make the function that also says, by path, which statistics are to be trusted."""
    run = fast_if_large(train_apply) if fast else train_apply

    def renew(variables: PyTree, batches: Any, key: jax.Array) -> tuple[Any, Checks]:
        first = jax.tree.map(lambda leaf: leaf[0], batches)
        plan = planned(train_apply, statistics, variables, first, key)

        def update(value: Array, images: Batch, key: jax.Array) -> Leaves:
            return updated(run, plan, variables, value, images, key)

        return renewed(variables, plan, *updates_of(update, batches, key), None, axis_name)

    return renew


def _from_single(
    train_apply: TrainApply,
    variables: PyTree,
    batches: Any,
    key: jax.Array,
    statistics: tuple[Running, ...] | None,
    axis_name: AxisName,
) -> tuple[Any, Checks]:
    """Do the same to batches that come one by one, of sizes of their own."""
    first, every = one_by_one("batches", batches)
    fast = axis_name is None and is_alone((variables, first))
    update = jit_of(_single, train_apply, statistics=statistics, fast=fast)
    probed = stacked([update(variables, value, first, key) for value in PROBES])
    updates, sizes = [], []
    for number, batch in enumerate(every):
        updates.append(update(variables, jnp.float32(0), batch, jax.random.fold_in(key, number)))
        sizes.append(len(jax.tree.leaves(batch)[0]))
    weights = None if len(set(sizes)) == 1 else jnp.array(sizes, jnp.float32) / sum(sizes)
    finish = jit_of(_finishing, train_apply, statistics=statistics, axis_name=axis_name)
    return finish(variables, first, key, probed, stacked(updates), weights)


def _single(
    train_apply: TrainApply, statistics: tuple[Running, ...] | None, fast: bool
) -> Callable[..., Leaves]:
    run = fast_if_large(train_apply) if fast else train_apply

    def update(variables: PyTree, value: Array, images: Batch, key: jax.Array) -> Leaves:
        plan = planned(train_apply, statistics, variables, images, key)
        return updated(run, plan, variables, value, images, key)

    return update


def _finishing(
    train_apply: TrainApply, statistics: tuple[Running, ...] | None, axis_name: AxisName
) -> Callable[..., tuple[Any, Checks]]:
    def finish(
        variables: PyTree,
        first: Batch,
        key: jax.Array,
        probed: Leaves,
        updates: Leaves,
        weights: jax.Array | None,
    ) -> tuple[Any, Checks]:
        plan = planned(train_apply, statistics, variables, first, key)
        return renewed(variables, plan, probed, updates, weights, axis_name)

    return finish
