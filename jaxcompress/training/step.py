"""Training and evaluation steps: pure functions of (state, batch, key).

`train_step` makes a step of a loss and an optax optimizer. The step knows no devices: jit it over
a mesh (`jit_step`), or give it an axis name and wrap it in `jax.shard_map` or `jax.pmap`
(`jaxcompress.per_device` says what that takes, of this step and all others).
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend.wide_sums import wide_sums
from jaxcompress.graph.trainable import (
    Leaves,
    Trainable,
    combine,
    partition,
    replace_leaves,
)
from jaxcompress.layouts import layout_on
from jaxcompress.parallel import batch_sharding, replicated
from jaxcompress.paths import flatten_with_paths
from jaxcompress.per_device import AxisName, average, slope

__all__ = ["Loss", "Step", "TrainState", "init_state", "jit_step", "train_step"]

Loss: TypeAlias = Callable[[PyTree, Batch, jax.Array], tuple[jax.Array, tuple[Any, dict[str, Any]]]]
"""`loss(variables, batch, key) -> (scalar, (new_state, metrics))`."""

Step: TypeAlias = Callable[["TrainState", Any, jax.Array], tuple["TrainState", dict[str, Any]]]
"""`step(state, batch, key) -> (state, metrics)`."""


class TrainState(NamedTuple):
    """All that a training step changes.

    Attributes:
        variables: the network's variables.
        opt_state: the optimizer's state over the trainable leaves ``{path: leaf}``.
        step: `int32[]`, the number of steps taken.
    """

    variables: PyTree
    opt_state: optax.OptState
    step: jax.Array


def init_state(
    variables: PyTree, tx: optax.GradientTransformation, *, trainable: Trainable | None = None
) -> TrainState:
    """Start training from `variables`; `tx` is initialised on the flat ``{path: leaf}`` params.

    Example:
        >>> state = init_state({"params": {"scale": jnp.ones(2)}}, optax.trace(0.9))
        >>> sorted(state.opt_state.trace)
        ['params/scale']
    """
    params, _ = partition(variables, trainable)
    return TrainState(variables, tx.init(params), jnp.zeros((), jnp.int32))


def train_step(
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    axis_name: AxisName = None,
    trainable: Trainable | None = None,
) -> Step:
    """Make the step that lowers `loss` by one update of `tx`.

    With θ the trainable leaves, Δ = tx.update(∇_θ loss(variables, batch, key)) and θ ← θ + Δ.

    Without `axis_name` the step is a function of the whole batch, on any number of devices. With
    it, gradients, metrics (counts too, which become float32) and inexact new state are averaged
    over that axis, in float32, for a state that every device holds whole (`in_specs=P()` under
    `jax.shard_map`) and batches of equal size. The loss is that of the device's part, or a mean
    over the axis already.
    Two things then differ from the single-device step unless the loss takes care of them:

    * BatchNorm normalises by the statistics of each device's own examples unless the module is
      told to average over the axis (Linen: `BatchNorm(axis_name=...)`).
    * `key` is used as passed, by every device alike. Per-example views want that; for dropout,
      fold `jax.lax.axis_index(axis_name)` into it inside the loss.

    A batch that does not fit is given in k equal parts, a step each, with
    ``optax.MultiSteps(tx, k).gradient_transformation()`` as `tx`: the k-th step updates θ by the
    mean of the k gradients. That is the update of the whole batch where the loss is a mean over
    examples, one by one. Parts with unequal numbers of valid examples count alike unless each sum
    is divided by the mean number of a part; BatchNorm normalises by its part, and moves its running
    averages k times. `step` counts parts, schedules in `tx` count updates.

    Args:
        loss: `loss(variables, batch, key) -> (scalar, (new_state, metrics))`. `new_state` holds
            the non-trainable leaves to replace, e.g. ``{"batch_stats": ...}`` or ``{}``;
            `metrics` is a dict of scalars, to which the step adds ``"loss"``.
        tx: any optax optimizer.
        axis_name: the axis of the surrounding `jax.shard_map` or `jax.pmap`.
        trainable: what is optimized; default `default_trainable(variables)`.

    Returns:
        `step(state, batch, key) -> (state, metrics)`.

    Example:
        >>> def loss(variables, batch, key):
        ...     return (variables["scale"] - batch.mean()) ** 2, ({}, {})
        >>> tx = optax.sgd(0.5)
        >>> step = train_step(loss, tx)
        >>> state = init_state({"scale": jnp.float32(1.0)}, tx)
        >>> state, metrics = step(state, jnp.full(4, 3.0), jax.random.key(0))
        >>> float(state.variables["scale"]), float(metrics["loss"])
        (3.0, 4.0)
        >>> twice = optax.MultiSteps(tx, 2).gradient_transformation()
        >>> step, state = train_step(loss, twice), init_state({"scale": jnp.float32(1.0)}, twice)
        >>> for half in jnp.full((2, 2), 3.0):
        ...     state, metrics = step(state, half, jax.random.key(0))
        ...     print(float(state.variables["scale"]))
        1.0
        3.0
    """

    def step(
        state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, Array]]:
        params, rest = partition(state.variables, trainable)

        def objective(params: Leaves, *rest: PyTree) -> tuple[jax.Array, tuple[Any, Any]]:
            others, batch, key = rest
            return loss(combine(params, others, like=state.variables), batch, key)

        gradient = slope(objective, axis_name)
        (value, (new_state, metrics)), gradients = gradient(params, rest, batch, key)
        if axis_name is not None:
            # Counts too are means over the devices; a state's whole numbers are alike on all.
            metrics = jax.tree.map(_inexact, metrics)
        new_state, metrics = average((new_state, metrics), axis_name)
        metrics = {"loss": value, **metrics}
        updates, opt_state = tx.update(gradients, state.opt_state, params)
        variables = combine(optax.apply_updates(params, updates), rest, like=state.variables)
        _check_not_trainable(new_state, params)
        return TrainState(replace_leaves(variables, new_state), opt_state, state.step + 1), metrics

    return step


def _inexact(metric: Array) -> jax.Array:
    return jnp.asarray(metric, jnp.promote_types(jnp.result_type(metric), jnp.float32))


def _check_not_trainable(new_state: PyTree, params: Leaves) -> None:
    repeated = sorted(flatten_with_paths(new_state)[0].keys() & params.keys())
    if repeated:
        raise ValueError(
            f"a leaf is either optimized or replaced by new state, but these are both: {repeated}; "
            "leave them out of new_state, or exclude them by trainable="
        )


def _check_split(batch: Batch, mesh: Mesh) -> None:
    parts = mesh.shape[mesh.axis_names[0]]
    if parts == 1:
        return
    sizes = {path: np.shape(leaf)[:1] for path, leaf in flatten_with_paths(batch)[0].items()}
    wrong = {path: size for path, size in sizes.items() if not size or size[0] % parts}
    if wrong:
        raise ValueError(
            f"a batch is split over {parts} devices along its first axis, but these "
            f"leaves have {wrong} examples; leave them out, or pad them by parallel.pad_batch"
        )


def jit_step(step: Step, mesh: Mesh) -> Step:
    """Compile a step over a mesh: key replicated, batch split over the first axis of the mesh.

    A state's leaves that lie on the mesh stay as they lie (variables split over devices, and the
    optimizer's state with them); all others go to every device.

    Over several devices, sums of half precision are made in float32 (`wide_sums`), so that
    gradients are added up over the devices as on one.

    A state that this step returned is donated when it is passed on: its buffers are reused and it
    must not be read again. Anything else may be somebody's variables, and is copied first.

    Example:
        >>> from jaxcompress.parallel import mesh
        >>> def loss(variables, batch, key):
        ...     return (variables["scale"] - batch.mean()) ** 2, ({}, {})
        >>> tx = optax.sgd(0.5)
        >>> step = jit_step(train_step(loss, tx), mesh(jax.devices()[:1]))
        >>> state = init_state({"scale": jnp.float32(1.0)}, tx)
        >>> int(step(state, jnp.full(4, 3.0), jax.random.key(0))[0].step)
        1
    """
    whole, split = replicated(mesh), batch_sharding(mesh)
    body = wide_sums(step) if mesh.size > 1 else step

    @functools.cache
    def compiled(treedef: Any, layouts: tuple[NamedSharding, ...]) -> Step:
        state = jax.tree.unflatten(treedef, layouts)
        shardings: Any = {"in_shardings": (state, split, whole), "out_shardings": (state, whole)}
        return jax.jit(body, donate_argnums=0, **shardings)

    returned: dict[int, weakref.ref[Any]] = {}

    def ours(leaf: Array) -> Array:
        reference = returned.get(id(leaf))
        if reference is not None and reference() is leaf:
            return leaf
        return jax.device_put(jnp.copy(leaf), layout_on(leaf, mesh))

    def run(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, Array]]:
        _check_split(batch, mesh)
        leaves, treedef = jax.tree.flatten(state)
        layouts = tuple(layout_on(leaf, mesh) for leaf in leaves)
        state, metrics = compiled(treedef, layouts)(jax.tree.map(ours, state), batch, key)
        returned.clear()
        returned.update((id(leaf), weakref.ref(leaf)) for leaf in jax.tree.leaves(state))
        return state, metrics

    return run
