"""Re-estimating BatchNorm's running statistics: exact averages over given batches.

Removing channels changes what later layers see, and running averages follow slowly. Training-mode
functions only show the running update ``new = m * old + (1 - m) * batch``; called with ``old = 0``
it yields ``(1 - m) * batch``, from which the batch's own statistics are recovered and averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Batch, PyTree
from jaxcompress.compiled import jit_of
from jaxcompress.graph.trainable import Leaves, inexact, replace_leaves
from jaxcompress.paths import flatten_with_paths

__all__ = ["TrainApply", "reestimate"]

TrainApply: TypeAlias = Callable[[PyTree, Batch, jax.Array], tuple[Any, Any]]
"""`train_apply(variables, images, key) -> (logits, new_state)`."""

# A power of two far above any statistic: (m * PROBE + (1 - m) * batch) / PROBE rounds to m.
PROBE = 2.0**60


def reestimate(
    train_apply: TrainApply, variables: PyTree, batches: Any, *, key: jax.Array
) -> PyTree:
    """Replace running means and variances by the statistics of `batches`.

    Each batch's mean_t and var_t are recovered from the update whatever its momentum m, and put
    together by the law of total variance (all batches have one size)::

        mean = E_t[mean_t]        var = E_t[var_t] + E_t[(mean_t - mean)^2]

    A BatchNorm behind others sees inputs normalised by each batch's own statistics, as in training.
    m is known to float32, so the result is exact to about 1e-7 / (1 - m) relative.

    Args:
        train_apply: `train_apply(variables, images, key) -> (logits, new_state)` in training mode,
            e.g. Linen's `apply(..., mutable=["batch_stats"])`; its running statistics are the
            leaves of `new_state` named `mean` and `var`, as in Linen and NNX. Pass the
            same function object again and nothing is compiled twice.
        variables: the network's variables.
        batches: array (or tree) `[steps, batch, ...]`; sharded along `batch` or not.
        key: folded with the step number, for dropout.

    Returns:
        `variables` with those leaves replaced. A layer with momentum 1 keeps its statistics.

    Raises:
        ValueError: if `new_state` has no such leaves, or a `var` without its `mean`; if the
            statistics of a batch are NaN or infinite (under `jax.jit` they pass on as such).

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

    new, finite = jit_of(_reestimate, train_apply)(variables, batches, key)
    if not any(isinstance(flags, jax.core.Tracer) for flags in finite.values()):
        _check_finite(jax.device_get(finite))
    return new


def _reestimate(train_apply: TrainApply) -> Callable[..., tuple[Any, Leaves]]:
    """Make the function that also says, by path, which batches' statistics are finite."""

    def renew(variables: PyTree, batches: Any, key: jax.Array) -> tuple[Any, Leaves]:
        def update(value: float, images: Batch, key: jax.Array) -> Leaves:
            """Run one training-mode step from running statistics that all equal `value`."""
            given = replace_leaves(variables, {p: jnp.full_like(leaves[p], value) for p in paths})
            return _statistics(train_apply(given, images, key)[1])

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        leaves, _ = flatten_with_paths(variables)
        # Traced with arguments of its own: NNX refuses to change a Variable of an outer trace.
        paths = list(_statistics(jax.eval_shape(train_apply, variables, first, key)[1]))
        momenta = {path: leaf / PROBE for path, leaf in update(PROBE, first, key).items()}

        def body(index: jax.Array, images: Batch) -> tuple[jax.Array, Leaves]:
            return index + 1, update(0.0, images, jax.random.fold_in(key, index))

        _, updates = jax.lax.scan(body, jnp.int32(0), batches)
        finite = {p: jnp.isfinite(x).all(range(1, x.ndim)) for p, x in updates.items()}
        averages = _averages({path: _batch(updates[path], momenta[path]) for path in paths})
        # A momentum of NaN, from a first batch with NaN, is not one that keeps its statistics.
        kept = {p: jnp.where(momenta[p] >= 1, leaves[p], averages[p]) for p in paths}
        new = replace_leaves(variables, {p: kept[p].astype(leaves[p].dtype) for p in paths})
        return new, finite

    return renew


def _check_finite(finite: dict[str, np.ndarray]) -> None:
    wrong = sorted({int(n) for flags in finite.values() for n in np.flatnonzero(~flags)})
    if wrong:
        paths = [path for path, flags in finite.items() if not flags.all()]
        raise ValueError(
            "running statistics are averages over finite batches, but those of the batches "
            f"{wrong} are NaN or infinite in {paths}; leave these batches out, or look for NaN in "
            "the images and the variables"
        )


def _statistics(new_state: PyTree) -> Leaves:
    """The leaves named `mean` or `var` of a training-mode function's new state."""
    leaves, _ = flatten_with_paths(new_state)
    names = {"mean", "var"}
    statistics = {p: x for p, x in leaves.items() if p.split("/")[-1] in names and inexact(p, x)}
    alone = [
        p
        for p in statistics
        if p.endswith("var") and p.removesuffix("var") + "mean" not in statistics
    ]
    if not statistics or alone:
        raise ValueError(
            "running statistics are leaves named `mean`, or `mean` and `var` side by side, but "
            f"{alone or sorted(leaves)} {'lack a mean' if alone else 'hold none'}; return them as "
            "the new state of train_apply"
        )
    return statistics


def _batch(update: jax.Array, momentum: jax.Array) -> jax.Array:
    """Recover batch statistics `[steps, ...]` from updates (1 - m) * batch."""
    return update.astype(jnp.float32) / jnp.where(momentum < 1, 1 - momentum, 1)


def _averages(batch: Leaves) -> Leaves:
    """Average means and variances `[steps, ...]` by the law of total variance."""
    averages = {path: leaf.mean(0) for path, leaf in batch.items()}
    for path in batch:
        mean = path.removesuffix("var") + "mean"
        if path.split("/")[-1] == "var":
            averages[path] += jnp.mean(jnp.square(batch[mean] - averages[mean]), axis=0)
    return averages
