"""Convolutions over images smaller than their kernel, written as matrix products.

XLA's CPU compiler exchanges image and kernel of such a convolution, and then has no fast code for
it: 3x3 over 2x2 images of 512 channels run at 2 GFLOP/s, as a product of patches at 159. VGG for
32x32 images ends in four of them; without, its training step takes a fifth of the time
(`benchmarks/results/small_images.json`: two cores of an AMD EPYC, jaxlib 0.10.2). Train and
evaluate `as_products(function)`; trace and compress the function itself, whose convolutions say
more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import run

__all__ = ["as_products"]

IMAGES, KERNELS = (0, 3, 1, 2), (3, 2, 0, 1)
"""Where images have batch, channels, height, width, and kernels outputs, inputs, ...: Linen's."""


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function with convolutions of small images as products of patches.

    y[b, i, j] = sum over (u, v) of x[b, s i + u, s j + v] @ k[u, v], as one product of the patches
    `[b * i * j, u * v * inputs]` with the kernel. Only convolutions outside of nested jaxprs
    (loops, jitted functions) are rewritten; where there is none, nothing changes.

    Example:
        >>> def apply(kernel, images):
        ...     return jax.lax.conv_general_dilated(
        ...         images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ...     )
        >>> kernel, images = jnp.ones((3, 3, 1, 1)), jnp.ones((1, 2, 2, 1))
        >>> as_products(apply)(kernel, images).ravel().tolist()
        [4.0, 4.0, 4.0, 4.0]
    """

    def rewritten(*args: Any) -> Any:
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

        def step(_: int, equation: JaxprEqn, values: list[Any]) -> list[Any]:
            return [_product(equation, *values)] if _is_slow(equation) else bind(equation, values)

        leaves = jax.tree.leaves(args)
        results = run(jaxpr, jaxpr.consts, leaves, step, lambda literal: literal.val)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return rewritten


def _is_slow(equation: JaxprEqn) -> bool:
    """Tell whether an equation is a plain convolution whose kernel is larger than its image."""
    if equation.primitive.name != "conv_general_dilated":
        return False
    params, (image, kernel) = equation.params, map(shape_of, equation.invars)
    numbers = params["dimension_numbers"]
    is_plain = (
        (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (IMAGES, KERNELS, IMAGES)
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and set(params["lhs_dilation"]) | set(params["rhs_dilation"]) == {1}
    )
    return is_plain and any(k > n for k, n in zip(kernel[:2], image[1:3], strict=True))


def _product(equation: JaxprEqn, image: jax.Array, kernel: jax.Array) -> jax.Array:
    (height, width, inputs, outputs), params = kernel.shape, equation.params
    (down, across), shape = params["window_strides"], shape_of(equation.outvars[0])
    rows, columns = shape[1:3]
    padded = jnp.pad(image, ((0, 0), *params["padding"], (0, 0)))
    patches = [
        padded[:, u : u + rows * down : down, v : v + columns * across : across]
        for u in range(height)
        for v in range(width)
    ]
    patched = jnp.concatenate(patches, axis=-1).reshape(-1, height * width * inputs)
    dtype = params["preferred_element_type"]
    flat = kernel.reshape(height * width * inputs, outputs)
    product = jnp.dot(patched, flat, precision=params["precision"], preferred_element_type=dtype)
    return product.reshape(shape)
