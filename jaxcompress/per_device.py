"""The same step inside `jax.shard_map` or `jax.pmap`: what is each device's own, and means of it.

The rule for callers is one sentence: **inside `jax.shard_map` or `jax.pmap`, pass the name of the
mapped axis as `axis_name` to every step; elsewhere, `jax.jit` over sharded arrays included, pass
nothing.** Variables, gates, keys and states are then the same on every device, batches are equal
parts, in the order of the devices; what comes back is that of the whole batch, the same on every
device. Without `axis_name` a device's results are those of its own part, silently.

Inside, steps are written in one way, right with and without `check_vma` and under `jax.pmap`:
what is differentiated by, and the loss, are marked as each device's own (`per_device`), so that no
gradient is summed over devices on its way; then gradients are averaged, once (`average`). A loss
may be that of the device's part or a mean over the axis already: the result is the same.

What compares the examples of a batch (batch statistics, `knowledge.similarity`, `knowledge.pkt`)
sees those of its device, unless it is told the axis itself (`BatchNorm(axis_name=...)`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Function, PyTree

__all__ = ["AxisName", "average", "per_device", "slope"]

AxisName: TypeAlias = str | tuple[str, ...] | None
"""The mapped axis that a batch is split over, or several, major first; None where there is none."""


def per_device(tree: PyTree, axis_name: AxisName, like: PyTree = None) -> PyTree:
    """Mark arrays as each device's own, so that gradients by them are of one device alone.

    Under `jax.shard_map` with `check_vma=True` the gradient by an array that all devices share is a
    sum over them already: averaging it again would leave it too large by their number. Elsewhere
    this changes nothing.

    Args:
        tree: of arrays.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`.
        like: arrays over whose axes the result varies too: what the tree is put together with.

    Example:
        >>> float(per_device(1.0, None))
        1.0
    """
    axes = set(_names(axis_name)).union(*(_axes(leaf) for leaf in jax.tree.leaves(like)))
    return jax.tree.map(lambda leaf: _marked(leaf, axes), tree) if axes else tree


def _names(axis_name: AxisName) -> tuple[str, ...]:
    if axis_name is None:
        return ()
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)


def _axes(leaf: Array) -> frozenset[str]:
    """Return the mesh axes over which an array differs, as far as JAX keeps count of them."""
    is_array = isinstance(leaf, jax.core.Tracer)
    return jax.typeof(leaf).manual_axis_type.varying if is_array else frozenset()


def _marked(leaf: Array, axes: set[str]) -> Array:
    missing = tuple(sorted(axes - _axes(leaf)))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf


def average(tree: PyTree, axis_name: AxisName) -> PyTree:
    """Average the float leaves over the devices of an axis; counters and keys stay as they are.

    Half precision is summed in float32 and rounded once.

    Args:
        tree: of arrays.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`; None changes nothing.

    Example:
        >>> mean = jax.vmap(lambda x: average({"x": x}, "data"), axis_name="data")
        >>> mean(jnp.array([1.0, 3.0]))["x"].tolist()
        [2.0, 2.0]
    """
    return tree if axis_name is None else jax.tree.map(lambda leaf: _mean(leaf, axis_name), tree)


def _mean(leaf: Array, axis_name: AxisName) -> Array:
    dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.inexact):
        return leaf
    wide = jnp.asarray(leaf, jnp.promote_types(dtype, jnp.float32))
    return jax.lax.pmean(wide, axis_name).astype(dtype)


def slope(function: Function, axis_name: AxisName = None) -> Callable[..., tuple[Any, Any]]:
    """Make `f(at, *rest) -> (result, gradient by at)` of a mean over the examples of all devices.

    ∇ of mean_d L_d, L_d the loss of device d's part: local gradients, averaged once. Where layers
    send each other statistics (`BatchNorm(axis_name=...)`), L_d depends on what the others hold,
    and this is still the gradient of the mean.

    Args:
        function: `function(at, *rest) -> (scalar, others)`.
        axis_name: see `average`; without it, each device's own.

    Returns:
        `f(at, *rest) -> ((scalar, others), gradient)`. The scalar and the gradient are means over
        the axis; the others are as the function returned them, on each device.

    Example:
        >>> (value, _), gradient = slope(lambda x, y: ((x * y) ** 2, None))(3.0, 2.0)
        >>> float(value), float(gradient)
        (36.0, 24.0)
    """

    def local(at: PyTree, *rest: PyTree) -> tuple[Any, Any]:
        value, others = function(at, *rest)
        return per_device(value, axis_name, like=at), others

    def slopes(at: PyTree, *rest: PyTree) -> tuple[Any, Any]:
        at = per_device(at, axis_name, like=rest)
        (value, others), gradient = jax.value_and_grad(local, has_aux=True)(at, *rest)
        value, gradient = average((value, gradient), axis_name)
        return (value, others), gradient

    return slopes
