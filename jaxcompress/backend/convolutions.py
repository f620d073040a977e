"""Faster convolutions on CPUs: rewrite any function, gradients included, to call oneDNN.

    step = fast_convolutions(train_step(loss, tx))

Differentiate first, rewrite last: a training step's jaxpr holds three kinds of convolutions.

* The forward one, `y = x * w`, is handed to oneDNN as it is.
* The one that gives ∂/∂x of a strided convolution has a dilated input, mostly zeros. It is split
  into one dense convolution per phase, `out[p + s q] = (x * w[(low - p) mod s :: s])[q]`.
* The one that gives ∂/∂w contracts over the batch, with a window as large as the image. As a
  three-dimensional convolution over height, width **and channels**, the batch being its features,
  it becomes a sum of matrix products `[channels, batch] x [batch, features]` per pixel and tap,
  rows of pixels that fit into the caches at a time; where the kernel sees single pixels, it is one
  product over batch, height and width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.backend import onednn
from jaxcompress.backend.depthwise import convolve_depthwise, is_depthwise
from jaxcompress.backend.forms import convolve
from jaxcompress.graph.bodies import bind_rewritten
from jaxcompress.graph.internals import bind, inner_jaxprs, is_literal
from jaxcompress.graph.interpret import run

__all__ = ["fast_convolutions"]

Function = TypeVar("Function", bound=Callable[..., Any])
NAME = "conv_general_dilated"
# Smaller arrays are cheap to compute again.
MIN_STORED = 2**16


def fast_convolutions(function: Function) -> Function:
    """Return a function of the same values whose convolutions are fast on CPUs.

    Plain two-dimensional convolutions in float32, and in bfloat16 where the processor has AVX-512,
    run on oneDNN, with jaxlibs that were tried; depthwise ones are sums of shifted products. Those
    in functions called by `jax.jit`, in loops, branches and `jax.checkpoint` are included: in loops
    XLA's own gradients of convolutions are slowest (https://github.com/jax-ml/jax/issues/12868).
    Inside `jax.shard_map`, and on other platforms, they stay as they are. Results differ by the
    order of summation, in float32 by less than 5e-6 of the largest value in the tests.

    Apply it last, to an evaluation or a whole training step, and jit the result: the replaced
    convolutions have no derivative. Over several devices, apply it inside `jax.shard_map`: the
    compiler does not know how to split the calls, and under `jit` would gather their operands. Turn
    JAX's persistent compilation cache off (`jax_enable_compilation_cache`): jaxlib 0.10.2 cannot
    store programs with these calls, warns so, and keeps what it tried to store in memory for good.

    Measured on two cores (AMD EPYC with AVX2, jaxlib 0.10.2, batch 128, `benchmarks.throughput`):
    ResNet-20 trains on 215 images per second instead of 53 and evaluates 1203 instead of 755. What
    depthwise ones gain is in `benchmarks.depthwise`, what loops do in `benchmarks.loops`.

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
    def fast(*args: Any, **kwargs: Any) -> Array:
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        results = _run(jaxpr, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return cast(Function, fast)


def _run(jaxpr: ClosedJaxpr, values: Sequence[Array]) -> list[Array]:
    """Run a jaxpr with its convolutions replaced."""
    operands = {
        atom
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name == NAME and (_is_plain(equation) or is_depthwise(equation))
        for atom in equation.invars
        if not is_literal(atom)
    }

    def step(index: int, equation: JaxprEqn, values: list[Array]) -> Sequence[Array]:
        results = _apply(equation, values)
        pairs = zip(equation.outvars, results, strict=True)
        return [_stored(value) if variable in operands else value for variable, value in pairs]

    return run(jaxpr, jaxpr.consts, values, step, lambda atom: atom.val)


def _apply(equation: JaxprEqn, values: list[Array]) -> list[Array]:
    if equation.primitive.name == NAME and _is_plain(equation):
        return [convolve(equation, *values)]
    if equation.primitive.name == NAME and is_depthwise(equation):
        return [convolve_depthwise(equation, *values)]
    if _has_convolution(equation):
        return list(bind_rewritten(equation, values, _run))
    return bind(equation, values)


def _has_convolution(equation: JaxprEqn) -> bool:
    inner = [eqn for jaxpr in inner_jaxprs(equation) for eqn in jaxpr.jaxpr.eqns]
    return equation.primitive.name == NAME or any(_has_convolution(eqn) for eqn in inner)


def _is_plain(equation: JaxprEqn) -> bool:
    params = equation.params
    aval: Array = equation.outvars[0].aval
    return (
        onednn.available()
        and aval.ndim == 4
        and aval.size > 0
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and params["preferred_element_type"] in (None, aval.dtype)
        and str(aval.dtype) in onednn.dtypes()
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

    def through_a_loop(array: jax.Array) -> jax.Array:
        rounds = jnp.isnan(array[corner]).astype(jnp.int32)
        return lax.fori_loop(0, rounds, lambda _, same: same.at[corner].set(jnp.nan), array)

    return lax.platform_dependent(value, cpu=through_a_loop, default=lambda array: array)
