"""What training-mode functions show of a batch's statistics: their running update.

``new = m * old + (1 - m) * batch``: from an old value far above any statistic it tells m, and from
zero ``(1 - m) * batch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.compression.precision import widened
from jaxcompress.graph.trainable import Leaves, replace_leaves
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training.running_checks import check_types
from jaxcompress.training.running_layers import Running, layers_of

__all__ = ["PROBE", "PROBES", "STEP", "Plan", "TrainApply", "planned", "updated", "updates_of"]

TrainApply: TypeAlias = Callable[[PyTree, Batch, jax.Array], tuple[Any, Any]]
"""`train_apply(variables, images, key) -> (logits, new_state)`: new values of leaves, under their
paths. All of the library calls training functions like this."""

# A power of two far above any statistic: (m * PROBE + (1 - m) * batch) / PROBE rounds to m.
PROBE = 2.0**60
# A step from there that float32 sees, and a train_apply that rounds to half precision does not.
STEP = 2.0**-12
PROBES = (PROBE, PROBE * (1 + STEP))


class Plan(NamedTuple):
    """What is known before anything is computed.

    Attributes:
        leaves: of the variables.
        layers: which of them are running statistics.
        paths: of means and variances.
        wide: these leaves, in float32.
    """

    leaves: Leaves
    layers: Sequence[Running]
    paths: list[str]
    wide: Leaves


def planned(
    train_apply: TrainApply,
    statistics: tuple[Running, ...] | None,
    variables: PyTree,
    first: Batch,
    key: jax.Array,
) -> Plan:
    """Find the statistics among the variables, and check that they can be known; see `reestimate`.

    Raises:
        ValueError: if there are none, or they come rounded.
        TypeError: if they cannot come in float32.
    """
    leaves, _ = flatten_with_paths(variables)
    # Traced with arguments of its own: NNX refuses to change a Variable of an outer trace.
    state = flatten_with_paths(jax.eval_shape(train_apply, variables, first, key)[1])[0]
    layers = layers_of(state, statistics)
    paths = [path for layer in layers for path in layer[:2] if path is not None]
    wide = {path: widened(leaves[path]) for path in paths}
    check_types(train_apply, replace_leaves(variables, wide), first, key, leaves, paths)
    return Plan(leaves, layers, paths, wide)


def updated(
    train_apply: TrainApply,
    plan: Plan,
    variables: PyTree,
    value: Array,
    images: Batch,
    key: jax.Array,
) -> Leaves:
    """Run one training-mode step from running statistics that all equal `value`."""
    full = {path: jnp.full_like(plan.wide[path], value) for path in plan.paths}
    new, _ = flatten_with_paths(train_apply(replace_leaves(variables, full), images, key)[1])
    return {path: new[path] for path in plan.paths}


def updates_of(
    update: Callable[[Array, Batch, jax.Array], Leaves], batches: Any, key: jax.Array
) -> tuple[Leaves, Leaves]:
    """Return what both probes of the momentum, on the first batch, and all batches update to.

    They share a loop, because each loop would hold a network of its own to be compiled.
    """
    steps = len(jax.tree.leaves(batches)[0])
    places = jnp.concatenate([jnp.zeros(2, jnp.int32), jnp.arange(steps, dtype=jnp.int32)])
    values = jnp.concatenate([jnp.array(PROBES, jnp.float32), jnp.zeros(steps, jnp.float32)])

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
