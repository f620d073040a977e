"""Turning variables: kernels, biases and tables by Q, scales into kernels or into matrices."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.compression.precision import like, widened
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.graph.shifts import Shift
from jaxcompress.prune.rotation.planning import Fold, Plan

__all__ = ["touched", "turned_leaves"]

HIGHEST = jax.lax.Precision.HIGHEST


def touched(plan: Plan) -> list[str]:
    """Return the paths of the leaves that change: those along the stream, and biases."""
    biases = {shift.leaf for fold in plan.folds for shift in fold.biases.values()}
    return [*plan.axes, *sorted(biases - set(plan.axes))]


def turned_leaves(
    plan: Plan, rotation: np.ndarray, leaves: Mapping[str, Array]
) -> dict[str, jax.Array]:
    """Return the leaves that change, by path, each in its dtype.

    Args:
        plan: what is done to each.
        rotation: Q, `[width, width]`.
        leaves: all of the variables.
    """
    wide = {path: widened(leaves[path]) for path in touched(plan)}
    for fold in plan.folds:
        _into_kernels(fold, wide)
    for path, axes in plan.axes.items():
        if path in plan.matrices:
            wide[path] = _matrix(wide[path], jnp.asarray(rotation, wide[path].dtype))
        elif path not in {fold.scale for fold in plan.folds}:
            for axis in axes:
                wide[path] = _turned(wide[path], axis, rotation)
    return {path: like(array, leaves[path]) for path, array in wide.items()}


def _into_kernels(fold: Fold, wide: dict[str, jax.Array]) -> None:
    """Move a scale into kernels, and what they make of the shift into the biases behind them."""
    scale = wide[fold.scale]
    for path, shift in fold.biases.items():
        change = _change(wide[fold.shift], wide[path], fold.kernels[path], shift)
        wide[shift.leaf] = wide[shift.leaf] + fold.weight * change
    for path, axis in fold.kernels.items():
        kernel = wide[path]
        places = (*range(scale.ndim - 1), axis)
        shape = [size if place in places else 1 for place, size in enumerate(kernel.shape)]
        wide[path] = kernel * scale.reshape(shape)
    wide[fold.scale] = jnp.ones_like(scale)
    if fold.shift:
        wide[fold.shift] = jnp.zeros_like(wide[fold.shift])


def _change(constant: jax.Array, kernel: jax.Array, axis: int, shift: Shift) -> jax.Array:
    """Return what a leaf takes of what a kernel makes of a constant, of stacked kernels for each.

    The first steps of a stacked kernel are its slices.
    """
    if shift.scans:
        step = shift._replace(scans=shift.scans - 1, steps=shift.steps[1:])
        rows = (0 if constant.ndim > 1 else None, 0)
        each = functools.partial(_change, axis=axis - 1, shift=step)
        return jax.vmap(each, in_axes=rows)(constant, kernel)
    return shift.sign * _made(constant, kernel, axis, shift).ravel()[shift.entries]


def _made(constant: jax.Array, kernel: jax.Array, axis: int, shift: Shift) -> jax.Array:
    """Return what a kernel makes of a constant, in the shape of the result, 1 where it repeats."""
    shape = [-1 if place == axis else 1 for place in range(kernel.ndim)]
    filled = rearranged(kernel * constant.reshape(shape), shift.steps)
    (contracted, batch), other = shift.equation.params["dimension_numbers"], 1 - shift.position
    met = {*contracted[other], *batch[other]}
    sizes = enumerate(shape_of(shift.equation.invars[other]))
    ones = jnp.ones([size if place in met else 1 for place, size in sizes], filled.dtype)
    exact = {"precision": HIGHEST, "preferred_element_type": filled.dtype}
    operands = [ones, filled] if shift.position else [filled, ones]
    return bind(shift.equation, operands, exact)[0]


def _turned(leaf: jax.Array, axis: int, rotation: np.ndarray) -> jax.Array:
    turned = jnp.matmul(
        jnp.moveaxis(leaf, axis, -1), jnp.asarray(rotation, leaf.dtype), precision=HIGHEST
    )
    return jnp.moveaxis(turned, -1, axis)


def _matrix(scale: jax.Array, rotation: jax.Array) -> jax.Array:
    """Return Q^T diag(scale) Q, of stacked scales for each."""
    return jnp.matmul(rotation.T, scale[..., :, None] * rotation, precision=HIGHEST)
