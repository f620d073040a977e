"""Which axes of a conv or dot are its kernel's, and which are examples and positions."""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxcompress.graph.internals import shape_of

__all__ = ["averaged", "constant_shape"]


def constant_shape(equation: JaxprEqn, position: int) -> tuple[int, ...]:
    """Return a contraction's shape, 1 for the axes that its kernel, at a position, has no part in.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jaxpr = jax.make_jaxpr(jnp.dot)(jnp.ones((5, 3)), jnp.ones((3, 2)))
        >>> constant_shape(jaxpr.eqns[0], 1)
        (1, 2)
    """
    sizes, params = shape_of(equation.outvars[0]), equation.params
    if equation.primitive.name == "conv_general_dilated":
        made = {params["dimension_numbers"].out_spec[1]}
    else:
        contracted, batch = params["dimension_numbers"]
        left, right = (
            len(shape_of(operand)) - len(summed) - len(passed)
            for operand, summed, passed in zip(equation.invars, contracted, batch, strict=True)
        )
        both = len(batch[0])
        free = range(left) if position == 0 else range(left, left + right)
        made = {*range(both), *(both + axis for axis in free)}
    return tuple(size if axis in made else 1 for axis, size in enumerate(sizes))


def averaged(equation: JaxprEqn, position: int) -> tuple[int, ...]:
    """Return the axes of a contraction's other operand that its kernel does not meet.

    Of a convolution only the examples: along a window, where the image ends makes a difference.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> jaxpr = jax.make_jaxpr(jnp.dot)(jnp.ones((5, 3)), jnp.ones((3, 2)))
        >>> averaged(jaxpr.eqns[0], 1)
        (0,)
    """
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "conv_general_dilated":
        return (numbers.lhs_spec[0],)
    (contracted, batch), other = numbers, 1 - position
    met = {*contracted[other], *batch[other]}
    return tuple(axis for axis in range(len(shape_of(equation.invars[other]))) if axis not in met)
