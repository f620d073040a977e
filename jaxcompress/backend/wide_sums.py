"""Sums of half precision in float32, so that what devices add up between them is float32 too.

Under `jax.jit` over a mesh the compiler sums over the devices what each has summed over its own
examples, in the type of the program's own sum: of gradients in bfloat16 it adds eight numbers of
eight bits. Here each sum is made in float32 and rounded once, after the devices have been added.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph.bodies import bind_rewritten
from jaxcompress.graph.internals import bind, inner_jaxprs
from jaxcompress.graph.interpret import run

__all__ = ["wide_sums"]

CONTRACTIONS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
ADDITIONS = ("reduce_sum", "scatter-add")
SCATTERED = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")


def wide_sums(function: Function) -> Function:
    """Return a function of the same results whose sums of half precision are made in float32.

    Contractions, sums over axes and scattered additions, also in loops, branches and
    `jax.checkpoint`; derivatives must have been taken before. Functions without half precision
    stay as they are.

    Args:
        function: any function of pytrees of arrays, a whole training step for example.

    Example:
        >>> x = jnp.ones((3, 2), jnp.bfloat16)
        >>> print(
        ...     jax.make_jaxpr(wide_sums(lambda x: x.T @ x))(x).eqns[1].outvars[0].aval.str_short()
        ... )
        float32[2,2]
    """

    @functools.wraps(function)
    def wide(*args: PyTree) -> PyTree:
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        leaves = jax.tree.leaves(args)
        results = _run(jaxpr, leaves) if _sums_half(jaxpr) else jaxpr_as_fun(jaxpr)(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return wide


def _sums_half(jaxpr: ClosedJaxpr) -> bool:
    return any(
        _is_half_sum(equation) or any(map(_sums_half, inner_jaxprs(equation)))
        for equation in jaxpr.jaxpr.eqns
    )


def _is_half_sum(equation: JaxprEqn) -> bool:
    aval: Array = equation.outvars[0].aval if equation.outvars else None
    dtype = getattr(aval, "dtype", None)
    is_half = dtype in (jnp.bfloat16, jnp.float16)
    return is_half and equation.primitive.name in (*CONTRACTIONS, *ADDITIONS)


def _run(jaxpr: ClosedJaxpr, values: Sequence[Array]) -> list[Array]:
    return run(jaxpr, jaxpr.consts, values, lambda _, *each: _apply(*each), lambda atom: atom.val)


def _apply(equation: JaxprEqn, values: list[Array]) -> Sequence[Array]:
    if _is_half_sum(equation):
        return [_summed(equation, values)]
    if not any(map(_sums_half, inner_jaxprs(equation))):
        return bind(equation, values)
    return bind_rewritten(equation, values, _run)


def _summed(equation: JaxprEqn, values: list[Array]) -> Array:
    dtype, float32 = values[0].dtype, jnp.float32
    if equation.primitive.name in CONTRACTIONS:
        (result,) = bind(equation, values, {"preferred_element_type": jnp.dtype(float32)})
        return result.astype(equation.outvars[0].aval.dtype)  # type: ignore[attr-defined]
    wide = [value.astype(float32) if value.dtype == dtype else value for value in values]
    if equation.primitive.name == "reduce_sum":
        return bind(equation, wide)[0].astype(dtype)
    params = equation.params
    options = {name: params[name] for name in SCATTERED}
    return lax.scatter_add(*wide, **options).astype(dtype)
