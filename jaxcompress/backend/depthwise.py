"""Depthwise convolutions as sums of shifted products, which XLA's CPU compiler makes fast loops of.

Its own convolution of one channel a group takes ten to twenty times as long, in both passes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.per_device import per_device

__all__ = ["convolve_depthwise", "is_depthwise"]

MOST_TAPS = 49
"""Of a kernel: each is an operation of its own in the program."""


def is_depthwise(equation: JaxprEqn) -> bool:
    """Tell a convolution of one channel a group, or the gradient of its kernel.

    Args:
        equation: of `conv_general_dilated`.
    """
    params, result = equation.params, shape_of(equation.outvars[0])
    images, kernel = (shape_of(atom) for atom in equation.invars)
    numbers = params["dimension_numbers"]
    dtypes = {str(getattr(atom.aval, "dtype", None)) for atom in equation.invars}
    if len(result) != 4 or not np.prod(result) or not dtypes <= {"float32", "bfloat16"}:
        return False
    if params["batch_group_count"] > 1:
        groups, taps = params["batch_group_count"], [result[axis] for axis in numbers.out_spec[2:]]
        is_one_each = groups == images[numbers.lhs_spec[0]] == kernel[numbers.rhs_spec[0]]
        is_plain = params["lhs_dilation"] == (1, 1)
    else:
        groups, taps = params["feature_group_count"], [kernel[a] for a in numbers.rhs_spec[2:]]
        is_one_each = groups == images[numbers.lhs_spec[1]] == kernel[numbers.rhs_spec[0]]
        is_plain = True
    return groups > 1 and is_one_each and is_plain and int(np.prod(taps)) <= MOST_TAPS


def convolve_depthwise(equation: JaxprEqn, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Do what the equation says: on CPUs by shifted products, elsewhere as it stands."""
    form = _of_kernel if equation.params["batch_group_count"] > 1 else _of_images
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(form, equation),
        default=lambda *operands: bind(equation, operands)[0],
    )


def _of_images(equation: JaxprEqn, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Add up, for each tap of the kernel, the images shifted by it times its weights."""
    params = equation.params
    numbers = params["dimension_numbers"]
    batch, features, *space = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    padded = _padded(equation, images.transpose(batch, *space, features))
    weights = _wide(kernel.transpose(*window, into, out)[:, :, 0])
    sizes = [shape_of(equation.outvars[0])[axis] for axis in numbers.out_spec[2:]]
    steps = params["window_strides"]
    total: Array = 0.0
    for tap, start in _starts(weights.shape[:2], params["rhs_dilation"]):
        total = total + _wide(_strided(padded, 1, start, sizes, steps)) * weights[tap]
    batch, features, *space = numbers.out_spec
    return total.astype(_dtype(equation)).transpose(np.argsort((batch, *space, features)))


def _of_kernel(equation: JaxprEqn, images: jax.Array, gradient: jax.Array) -> jax.Array:
    """Add up, for each tap of the kernel, the shifted images times the gradient, by example.

    A loop over examples: a sum over all of them at once is no fast loop.
    """
    params = equation.params
    numbers = params["dimension_numbers"]
    channels, examples, *space = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    padded = _padded(equation, images.transpose(examples, *space, channels))
    slopes = gradient.transpose(into, *window, out)
    taps = [shape_of(equation.outvars[0])[axis] for axis in numbers.out_spec[2:]]
    starts = [start for _, start in _starts(taps, params["window_strides"])]
    sizes, steps = slopes.shape[1:3], params["rhs_dilation"]

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        image, slope = pair[0], _wide(pair[1])
        shifted = [_wide(_strided(image, 0, start, sizes, steps)) for start in starts]
        return total + jnp.stack([(one * slope).sum((0, 1)) for one in shifted]), None

    wide = jnp.promote_types(slopes.dtype, jnp.float32)
    zeros = jnp.zeros((len(starts), slopes.shape[-1]), wide)
    zeros = per_device(zeros, None, like=(padded, slopes))
    total, _ = lax.scan(add, zeros, (padded, slopes))
    batch, features, *space = numbers.out_spec
    whole = total.astype(_dtype(equation)).reshape(1, *taps, -1)
    return whole.transpose(np.argsort((batch, *space, features)))


def _dtype(equation: JaxprEqn) -> Any:
    """Return the type of the result, which may be wider than that of the operands."""
    aval: Any = equation.outvars[0].aval
    return aval.dtype


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _padded(equation: JaxprEqn, images: jax.Array) -> jax.Array:
    """Return `[batch, height, width, channels]` with zeros around and between the pixels."""
    params = equation.params
    pads = [
        (low, high, step - 1)
        for (low, high), step in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


def _starts(
    taps: Sequence[int], steps: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield each tap, and where its shifted images start."""
    for tap in itertools.product(*map(range, taps)):
        yield tap, tuple(t * step for t, step in zip(tap, steps, strict=True))


def _strided(
    array: jax.Array, first: int, start: Sequence[int], sizes: Sequence[int], steps: Sequence[int]
) -> jax.Array:
    """Return entries of two axes, from a start, in steps."""
    begin, end, stride = [0] * array.ndim, list(array.shape), [1] * array.ndim
    for axis, s, size, step in zip((first, first + 1), start, sizes, steps, strict=True):
        begin[axis], end[axis], stride[axis] = s, s + (size - 1) * step + 1, step
    return lax.slice(array, begin, end, stride)
