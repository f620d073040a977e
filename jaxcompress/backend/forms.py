"""One convolution in its fastest form: as it is, by phases, over channels, or as a product."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxcompress.backend import onednn
from jaxcompress.graph.internals import bind, shape_of

__all__ = ["convolve"]

Pads = Sequence[tuple[int, int]]
# The gradient of a kernel has an image as its window; up to this many taps it may be a kernel's.
KERNEL_TAPS = 9
# Bytes of an operand that a kernel's gradient goes through at once: it reads all of them for every
# tap, so that they should stay in the caches. Up to `WHOLE` parts do not pay, and each is a call
# that takes time to compile.
PART, WHOLE, MOST_PARTS = 2**21, 2**22, 16


class Form(NamedTuple):
    """A convolution's parameters, without those that `_is_plain` settles."""

    numbers: lax.ConvDimensionNumbers
    strides: Sequence[int]
    padding: Pads
    images_dilation: Sequence[int]
    kernel_dilation: Sequence[int]
    space: Sequence[int]
    """Height and width of the result."""


def convolve(equation: JaxprEqn, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Choose the form by the shapes, and the platform when the program is lowered."""
    params = equation.params
    numbers = params["dimension_numbers"]
    shape = shape_of(equation.outvars[0])
    form = Form(
        numbers,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        [shape[axis] for axis in numbers.out_spec[2:]],
    )
    window = [kernel.shape[axis] for axis in numbers.rhs_spec[2:]]
    if form.images_dilation != (1, 1):
        chosen = _by_phases
    elif np.prod(window) <= max(np.prod(form.space), KERNEL_TAPS):
        chosen = _as_it_is
    elif np.prod(form.space) == 1 and np.max(form.padding) <= 0:
        chosen = _as_product
    else:
        chosen = _over_channels
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(chosen, form),
        default=lambda *operands: bind(equation, operands)[0],
    )


def _as_it_is(form: Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    images, kernel = _ordered(form, images, kernel)
    result = _dense(images, kernel, form.strides, form.padding, form.kernel_dilation)
    return _given_order(form, result)


def _ordered(form: Form, images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return `[batch, height, width, in]` and `[height, width, in, out]`."""
    batch, features, *space = form.numbers.lhs_spec
    out, into, *window = form.numbers.rhs_spec
    return images.transpose(batch, *space, features), kernel.transpose(*window, into, out)


def _given_order(form: Form, result: jax.Array) -> jax.Array:
    """Bring `[batch, height, width, out]` into the equation's own order."""
    batch, features, *space = form.numbers.out_spec
    return result.transpose(np.argsort((batch, *space, features)))


def _as_product(form: Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Contract batch and space at once: the ∂/∂w of a convolution that sees single pixels."""
    batch, features, *space = form.numbers.lhs_spec
    out, into, *window = form.numbers.rhs_spec
    kept = _kept(form.padding, [images.shape[axis] for axis in space])
    # What is contracted leads in both, as it lies in memory where channels are last.
    seen = images.transpose(features, *space, batch)[(slice(None), *kept)]
    rows, columns = form.kernel_dilation
    taps = kernel.transpose(into, *window, out)
    axes = (0, 1, 2), (0, 1, 2)
    result = jnp.tensordot(
        seen[:, ::rows, ::columns], taps, axes, preferred_element_type=jnp.float32
    )
    return _given_order(form, result.astype(images.dtype)[:, None, None])


def _over_channels(form: Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve over height, width and what the equation has as batch: the channels of a ∂/∂w."""
    batch, features, *space = form.numbers.lhs_spec
    out, into, *window = form.numbers.rhs_spec
    volume = images.transpose(*space, batch, features)[None]
    taps = kernel.transpose(*window, into, out)[:, :, None]
    strides, dilation = (*form.strides, 1), (*form.kernel_dilation, 1)
    result = jnp.zeros((*form.space, volume.shape[3], taps.shape[-1]), jnp.float32)
    for first, last in _parts(volume, taps):
        met, rows = _met(form, volume, first, last)
        if met.size:
            padding = [rows, form.padding[1], (0, 0)]
            part = _dense(met, taps[first:last], strides, padding, dilation)[0]
            result += part.astype(jnp.float32)
    batch, features, *space = form.numbers.out_spec
    return result.astype(images.dtype).transpose(np.argsort((*space, batch, features)))


def _met(form: Form, volume: jax.Array, first: int, last: int) -> tuple[jax.Array, tuple[int, int]]:
    """Return the rows of a volume that some rows of taps meet, and the zeros before and after."""
    low, stride = form.padding[0][0], form.kernel_dilation[0]
    begin = first * stride - low
    end = (last - 1) * stride - low + (form.space[0] - 1) * form.strides[0] + 1
    start, stop = (min(max(row, 0), volume.shape[1]) for row in (begin, end))
    return volume[:, start:stop], (start - begin, end - stop)


def _parts(volume: jax.Array, taps: jax.Array) -> list[tuple[int, int]]:
    """Return the rows of taps, from and to, that are gone through one after the other."""
    height = len(taps)
    size = max(volume.size, taps.size) * taps.dtype.itemsize
    rows = height if size <= WHOLE else max(-(-height // MOST_PARTS), PART * height // size)
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


def _by_phases(form: Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute each phase of the result from the taps that meet no zeros, and interleave them."""
    images, kernel = _ordered(form, images, kernel)
    strides, count = form.images_dilation, len(images)
    quotients = [-(-size // stride) for size, stride in zip(form.space, strides, strict=True)]
    sizes, taps = images.shape[1:3], kernel.shape[:2]
    axes = [
        [_phase(p, stride, low, *lengths) for p in range(stride)]
        for stride, (low, _), *lengths in zip(
            strides, form.padding, quotients, sizes, taps, strict=True
        )
    ]
    phases = []
    for phase in itertools.product(*axes):
        part = kernel[tuple(reached for reached, _ in phase)]
        if part.size:
            phases.append(_dense(images, part, (1, 1), [pads for _, pads in phase], (1, 1)))
        else:
            phases.append(jnp.zeros((count, *quotients, part.shape[-1]), images.dtype))
    stacked = jnp.stack(phases, 3).reshape(count, *quotients, *strides, -1)
    whole = stacked.transpose(0, 1, 3, 2, 4, 5)
    whole = whole.reshape(count, quotients[0] * strides[0], quotients[1] * strides[1], -1)
    return _given_order(form, whole[:, : form.space[0], : form.space[1]])


def _phase(
    phase: int, stride: int, low: int, quotient: int, size: int, taps: int
) -> tuple[slice, tuple[int, int]]:
    """Return the taps that reach one phase of an axis, and the padding that its quotients need."""
    first = (low - phase) % stride
    start = (low - phase - first) // stride
    reach = len(range(first, taps, stride))
    return slice(first, None, stride), (start, quotient + reach - 1 - size - start)


def _dense(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
) -> jax.Array:
    """Convolve, cutting off what a negative padding removes."""
    kept = _kept(padding, images.shape[1:-1])
    padding = [(max(low, 0), max(high, 0)) for low, high in padding]
    return onednn.convolution(images[(slice(None), *kept)], kernel, strides, padding, dilation)


def _kept(padding: Pads, sizes: Sequence[int]) -> list[slice]:
    """Return what a negative padding leaves of each axis."""
    return [
        slice(max(-low, 0), size - max(-high, 0))
        for size, (low, high) in zip(sizes, padding, strict=True)
    ]
