"""Faster convolutions on CPUs: rewrite any function, gradients included, to call oneDNN.

    step = fast_convolutions(train_step(loss, tx))

Differentiate first, rewrite last: a training step's jaxpr holds three kinds of convolutions.

* The forward one, `y = x * w`, is handed to oneDNN as it is.
* The one that gives ∂/∂x of a strided convolution has a dilated input, mostly zeros. It is split
  into one dense convolution per phase, `out[p + s q] = (x * w[(low - p) mod s :: s])[q]`.
* The one that gives ∂/∂w contracts over the batch, with a window as large as the image. As a
  three-dimensional convolution over height, width **and channels**, the batch being its features,
  it becomes a sum of matrix products `[channels, batch] x [batch, features]` per pixel and tap.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.backend import onednn
from jaxcompress.graph.internals import bind, inner_jaxprs, is_literal, shape_of
from jaxcompress.graph.interpret import run

__all__ = ["fast_convolutions"]

Function = TypeVar("Function", bound=Callable[..., Any])
Pads = Sequence[tuple[int, int]]
NAME = "conv_general_dilated"
# Below this many channels on either side, XLA's own gradient of the kernel is the faster one.
MIN_CHANNELS = MappingProxyType({"float32": 32, "bfloat16": 16})
# The gradient of a kernel has an image as its window; up to this many taps it may be a kernel's.
KERNEL_TAPS = 9
# Smaller arrays are cheap to compute again.
MIN_STORED = 2**16
DTYPES = (jnp.dtype("float32"), jnp.dtype("bfloat16"))


def fast_convolutions(function: Function) -> Function:
    """Return a function of the same values whose convolutions run on oneDNN, on CPUs.

    Only plain two-dimensional convolutions in float32 or bfloat16 are replaced, those in functions
    called by `jax.jit` included; inside loops, branches, `jax.checkpoint` and `jax.shard_map`, on
    other platforms, and with a jaxlib that was not tried they stay as they are. Results differ by
    the order of summation, in float32 by less than 5e-6 of the largest value in the tests.

    Apply it last, to an evaluation or a whole training step, and jit the result: the replaced
    convolutions have no derivative. Over several devices, apply it inside `jax.shard_map`: the
    compiler does not know how to split the calls, and under `jit` would gather their operands. Turn
    JAX's persistent compilation cache off (`jax_enable_compilation_cache`): jaxlib 0.10.2 cannot
    store programs with these calls, warns so, and keeps what it tried to store in memory for good.

    Measured on two cores (AMD EPYC, jaxlib 0.10.2, batch 128, `benchmarks.throughput --quick`):
    ResNet-20 trains on 344 images per second instead of 171 and evaluates 2003 instead of 1086.

    Args:
        function: any function of pytrees of arrays.

    Returns:
        `(*args, **kwargs) -> ` what `function` returns.

    Example:
        >>> def loss(kernel, images):
        ...     numbers = ("NHWC", "HWIO", "NHWC")
        ...     return jax.lax.conv_general_dilated(
        ...         images, kernel, (1, 1), "SAME", dimension_numbers=numbers
        ...     ).sum()
        >>> gradient = jax.jit(fast_convolutions(jax.grad(loss)))
        >>> gradient(jnp.ones((1, 1, 2, 3)), jnp.ones((2, 4, 4, 2)))[0, 0, 0].tolist()
        [32.0, 32.0, 32.0]
    """

    @functools.wraps(function)
    def fast(*args: Any, **kwargs: Any) -> Any:
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        results = _run(jaxpr, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return cast(Function, fast) if onednn.available() else function


def _run(jaxpr: ClosedJaxpr, values: Sequence[Any]) -> list[Any]:
    """Run a jaxpr with its convolutions replaced."""
    operands = {
        atom
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name == NAME
        for atom in equation.invars
        if not is_literal(atom)
    }

    def step(index: int, equation: JaxprEqn, values: list[Any]) -> Sequence[Any]:
        results = _apply(equation, values)
        pairs = zip(equation.outvars, results, strict=True)
        return [_stored(value) if variable in operands else value for variable, value in pairs]

    return run(jaxpr, jaxpr.consts, values, step, lambda atom: atom.val)


def _apply(equation: JaxprEqn, values: list[Any]) -> list[Any]:
    if equation.primitive.name == NAME and _is_plain(equation):
        return [_convolve(equation, *values)]
    if equation.primitive.name in ("jit", "pjit") and _has_convolution(equation):
        return _run(equation.params["jaxpr"], values)
    return bind(equation, values)


def _has_convolution(equation: JaxprEqn) -> bool:
    inner = [own for jaxpr in inner_jaxprs(equation) for own in jaxpr.jaxpr.eqns]
    return equation.primitive.name == NAME or any(_has_convolution(own) for own in inner)


def _is_plain(equation: JaxprEqn) -> bool:
    params = equation.params
    aval: Any = equation.outvars[0].aval
    return (
        aval.ndim == 4
        and aval.size > 0
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and params["preferred_element_type"] in (None, aval.dtype)
        and aval.dtype in DTYPES
        and all(getattr(atom.aval, "dtype", None) == aval.dtype for atom in equation.invars)
        and (params["lhs_dilation"] == (1, 1) or params["window_strides"] == (1, 1))
        and (params["lhs_dilation"] == (1, 1) or params["rhs_dilation"] == (1, 1))
    )


def _stored(value: jax.Array) -> jax.Array:
    """Keep XLA from computing a convolution's operand again wherever else it is read.

    XLA's CPU compiler copies the element-wise operations that lead to an array into each of its
    readers. In a residual network that chain reaches back through all blocks of a stage, and a
    reader that transposes runs it with strided access. Optimization barriers are dropped before
    that; a loop stays whose number of rounds is known only at run time: none, or one that writes
    the NaN that is there.
    """
    if value.ndim != 4 or value.size < MIN_STORED:
        return value
    corner = (0,) * value.ndim
    rounds = jnp.isnan(value[corner]).astype(jnp.int32)
    return lax.fori_loop(0, rounds, lambda _, own: own.at[corner].set(jnp.nan), value)


class _Form(NamedTuple):
    """A convolution's parameters, without those that `_is_plain` settles."""

    numbers: lax.ConvDimensionNumbers
    strides: Sequence[int]
    padding: Pads
    images_dilation: Sequence[int]
    kernel_dilation: Sequence[int]
    space: Sequence[int]
    """Height and width of the result."""


def _convolve(equation: JaxprEqn, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Choose the form by the shapes, and the platform when the program is lowered."""
    params = equation.params
    numbers = params["dimension_numbers"]
    shape = shape_of(equation.outvars[0])
    form = _Form(
        numbers,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        [shape[axis] for axis in numbers.out_spec[2:]],
    )
    window = [kernel.shape[axis] for axis in numbers.rhs_spec[2:]]
    channels = images.shape[numbers.lhs_spec[0]], kernel.shape[numbers.rhs_spec[0]]
    if form.images_dilation != (1, 1):
        chosen = _by_phases
    elif np.prod(window) <= max(np.prod(form.space), KERNEL_TAPS):
        chosen = _as_it_is
    elif min(channels) >= MIN_CHANNELS[str(images.dtype)]:
        chosen = _over_channels
    else:
        return bind(equation, [images, kernel])[0]
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(chosen, form),
        default=lambda *operands: bind(equation, operands)[0],
    )


def _as_it_is(form: _Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    images, kernel = _ordered(form, images, kernel)
    result = _dense(images, kernel, form.strides, form.padding, form.kernel_dilation)
    return _given_order(form, result)


def _ordered(form: _Form, images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return `[batch, height, width, in]` and `[height, width, in, out]`."""
    batch, features, *space = form.numbers.lhs_spec
    out, into, *window = form.numbers.rhs_spec
    return images.transpose(batch, *space, features), kernel.transpose(*window, into, out)


def _given_order(form: _Form, result: jax.Array) -> jax.Array:
    """Bring `[batch, height, width, out]` into the equation's own order."""
    batch, features, *space = form.numbers.out_spec
    return result.transpose(np.argsort((batch, *space, features)))


def _over_channels(form: _Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve over height, width and what the equation has as batch: the channels of a ∂/∂w."""
    batch, features, *space = form.numbers.lhs_spec
    out, into, *window = form.numbers.rhs_spec
    volume = images.transpose(*space, batch, features)[None]
    taps = kernel.transpose(*window, into, out)[:, :, None]
    padding, dilation = [*form.padding, (0, 0)], (*form.kernel_dilation, 1)
    result = _dense(volume, taps, (*form.strides, 1), padding, dilation)[0]
    batch, features, *space = form.numbers.out_spec
    return result.transpose(np.argsort((*space, batch, features)))


def _by_phases(form: _Form, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute each phase of the result from the taps that meet no zeros, and interleave them."""
    images, kernel = _ordered(form, images, kernel)
    strides, count = form.images_dilation, len(images)
    quotients = [-(-size // stride) for size, stride in zip(form.space, strides, strict=True)]
    sizes, taps = images.shape[1:3], kernel.shape[:2]
    axes = [
        [_phase(p, stride, low, *own) for p in range(stride)]
        for stride, (low, _), *own in zip(
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
    kept = [
        slice(max(-low, 0), size - max(-high, 0))
        for size, (low, high) in zip(images.shape[1:-1], padding, strict=True)
    ]
    padding = [(max(low, 0), max(high, 0)) for low, high in padding]
    return onednn.convolution(images[(slice(None), *kept)], kernel, strides, padding, dilation)
