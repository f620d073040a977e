"""Re-estimating BatchNorm's running statistics: exact averages over given batches.

Removing channels changes what later layers see, and running averages follow slowly. Training-mode
functions only show the running update ``new = m * old + (1 - m) * batch``; called with ``old = 0``
it yields ``(1 - m) * batch``, from which the batch's own statistics are recovered and averaged.
All of that is in float32: 0.99 is 0.988 in bfloat16, and 1 - 0.988 a fifth too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.compiled import jit_of
from jaxcompress.compression.precision import widened
from jaxcompress.graph.trainable import Leaves, inexact, replace_leaves
from jaxcompress.paths import flatten_with_paths
from jaxcompress.per_device import AxisName, average
from jaxcompress.training.running_checks import Checks, check, check_types

__all__ = ["Running", "TrainApply", "reestimate"]

TrainApply: TypeAlias = Callable[[PyTree, Batch, jax.Array], tuple[Any, Any]]
"""`train_apply(variables, images, key) -> (logits, new_state)`: new values of leaves, under their
paths. All of the library calls training functions like this."""


class Running(NamedTuple):
    """The leaves that hold one layer's running statistics, by path.

    Attributes:
        mean: the running mean.
        var: the running variance, if there is one.
        batches: how many were averaged, where evaluation divides both by 1 - m ** batches.
    """

    mean: str
    var: str | None = None
    batches: str | None = None


# A power of two far above any statistic: (m * PROBE + (1 - m) * batch) / PROBE rounds to m.
PROBE = 2.0**60
# A step from there that float32 sees, and a train_apply that rounds to half precision does not.
STEP = 2.0**-12


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
    together by the law of total variance (all batches have one size)::

        mean = E_t[mean_t]        var = E_t[var_t] + E_t[(mean_t - mean)^2]

    A BatchNorm behind others sees inputs normalised by each batch's own statistics, as in training.
    m is known to float32, so the result is exact to about 1e-7 / (1 - m) relative. Statistics in
    half precision are given to `train_apply` in float32, and rounded once, at the end.

    Args:
        train_apply: `train_apply(variables, images, key) -> (logits, new_state)` in training mode,
            e.g. Linen's `apply(..., mutable=["batch_stats"])`. Pass the same function object again
            and nothing is compiled twice.
        variables: the network's variables.
        batches: array (or tree) `[steps, batch, ...]`; sharded along `batch` or not.
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
    renew = jit_of(_reestimate, train_apply, statistics=chosen, axis_name=axis_name)
    new, checks = renew(variables, batches, key)
    if not any(isinstance(flags, jax.core.Tracer) for flags in jax.tree.leaves(checks)):
        check(jax.device_get(checks))
    return new


def _reestimate(
    train_apply: TrainApply, statistics: tuple[Running, ...] | None, axis_name: AxisName
) -> Callable[..., tuple[Any, Checks]]:
    """Make the function that also says, by path, which statistics are to be trusted."""

    def renew(variables: PyTree, batches: Any, key: jax.Array) -> tuple[Any, Checks]:
        first = jax.tree.map(lambda leaf: leaf[0], batches)
        leaves, _ = flatten_with_paths(variables)
        # Traced with arguments of its own: NNX refuses to change a Variable of an outer trace.
        state = flatten_with_paths(jax.eval_shape(train_apply, variables, first, key)[1])[0]
        layers = _named(state) if statistics is None else _checked(statistics, state)
        paths = [path for layer in layers for path in layer[:2] if path is not None]
        wide = {path: widened(leaves[path]) for path in paths}
        check_types(train_apply, replace_leaves(variables, wide), first, key, leaves, paths)

        def update(value: Array, images: Batch, key: jax.Array) -> Leaves:
            """Run one training-mode step from running statistics that all equal `value`."""
            given = replace_leaves(variables, {p: jnp.full_like(wide[p], value) for p in paths})
            new, _ = flatten_with_paths(train_apply(given, images, key)[1])
            return {path: new[path] for path in paths}

        probed, updates = _updates(update, batches, key)
        probed = average(probed, axis_name)
        momenta = {path: leaf[0] / PROBE for path, leaf in probed.items()}
        batch = {path: _batch(updates[path], momenta[path]) for path in paths}
        averages = _averages(batch, layers, axis_name)
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

    return renew


def _updates(
    update: Callable[[Array, Batch, jax.Array], Leaves], batches: Any, key: jax.Array
) -> tuple[Leaves, Leaves]:
    """Return what both probes of the momentum, on the first batch, and all batches update to.

    They share a loop, because each loop would hold a network of its own to be compiled.
    """
    steps = len(jax.tree.leaves(batches)[0])
    places = jnp.concatenate([jnp.zeros(2, jnp.int32), jnp.arange(steps, dtype=jnp.int32)])
    probes = jnp.array([PROBE, PROBE * (1 + STEP)], jnp.float32)
    values = jnp.concatenate([probes, jnp.zeros(steps, jnp.float32)])

    def body(step: tuple[jax.Array, jax.Array]) -> Leaves:
        place, value = step
        images = jax.tree.map(
            lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False), batches
        )
        drawn = jnp.where(value == 0, jax.random.fold_in(key, place), key)
        return update(value, images, drawn)

    every = jax.lax.map(body, (places, values))
    probed = {path: leaf[:2] for path, leaf in every.items()}
    return probed, {path: leaf[2:] for path, leaf in every.items()}


def _is_exact(probed: jax.Array) -> jax.Array:
    """Whether updates `[2, ...]` from both probes are m times these, up to float32's rounding."""
    momentum = probed[0] / PROBE
    slope = (probed[1] - probed[0]) / (STEP * PROBE)
    return jnp.abs(slope - momentum) <= jnp.abs(momentum) / 64 + 1e-9


def _weight(momentum: jax.Array, count: jax.Array) -> jax.Array:
    """Return by what evaluation divides: 1 - m ** count, or 1 before the first batch."""
    return jnp.where(count == 0, 1.0, 1 - momentum**count)


def _named(state: Leaves) -> list[Running]:
    """Pair the leaves named `mean` and `var` of a training-mode function's new state."""
    names = {"mean", "var"}
    paths = [p for p, leaf in state.items() if p.split("/")[-1] in names and inexact(p, leaf)]
    means = {p.removesuffix("mean"): p for p in paths if p.endswith("mean")}
    variances = {p.removesuffix("var"): p for p in paths if p.endswith("var")}
    alone = [path for start, path in variances.items() if start not in means]
    if not paths or alone:
        raise ValueError(
            "running statistics are leaves named `mean`, or `mean` and `var` side by side, but "
            f"{alone or sorted(state)} {'lack a mean' if alone else 'hold none'}; return them as "
            "the new state of train_apply, or name them by statistics="
        )
    return [Running(path, variances.get(start)) for start, path in means.items()]


def _checked(statistics: Sequence[Running], state: Leaves) -> Sequence[Running]:
    missing = [path for layer in statistics for path in layer if path and path not in state]
    if missing or not statistics:
        raise ValueError(
            f"statistics= names leaves of the new state, but {missing or 'none'} of "
            f"{sorted(state)}; for Equinox pass adapters.equinox_statistics(model)"
        )
    return statistics


def _batch(update: jax.Array, momentum: jax.Array) -> jax.Array:
    """Recover batch statistics `[steps, ...]` from updates (1 - m) * batch."""
    return update.astype(jnp.float32) / jnp.where(momentum < 1, 1 - momentum, 1)


def _averages(batch: Leaves, layers: Sequence[Running], axis_name: AxisName) -> Leaves:
    """Average means and variances `[steps, ...]` by the law of total variance."""
    averages = average({path: leaf.mean(0) for path, leaf in batch.items()}, axis_name)
    for mean, var, _ in layers:
        if var is not None:
            spread = jnp.mean(jnp.square(batch[mean] - averages[mean]), axis=0)
            averages[var] += average(spread, axis_name)
    return averages
