"""Which sums of a program are means: divided by the number of their summands, or by k less.

A mean over channels that lost some of them may divide by what is left, as the same code would at
the smaller width, or by the number that the program names, as if the lost ones were zeros. Sums are
followed through changes of type and shape, square roots and calls, in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array, Function
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.divisions import Divided, Scope, divisions
from jaxcompress.graph.symbolic import is_long

if TYPE_CHECKING:
    from jaxcompress.graph.interpret import Body, Node, Rule

__all__ = ["over_kept", "summands", "summed_axes", "with_means"]


def over_kept(ddof: int, count: int, fraction: Array, largest: Function = max) -> Array:
    """Return what turns a division by `count - ddof` into one by what is left less `ddof`.

    `(count - ddof) / max(fraction x count - ddof, 1)`: where no more than `ddof` are left, the code
    would divide by zero at the smaller width; here by one.

    Args:
        ddof: of the mean.
        count: the number of summands.
        fraction: the part of them that is left, not zero.
        largest: `max` of whatever `fraction` is.

    Example:
        >>> over_kept(0, 8, 0.5), over_kept(1, 8, 0.5)
        (2.0, 2.3333333333333335)
    """
    return (count - ddof) / largest(count * fraction - ddof, 1) if ddof else 1 / fraction


def summed_axes(node: Node) -> list[tuple[Axis, ...]]:
    """Return along what a sum, or a dot, adds up: an axis of each operand; nothing of all else."""
    name, params = node.equation.primitive.name, node.equation.params
    if name == "reduce_sum":
        return [(node.inputs[0].axes[dimension],) for dimension in params["axes"]]
    if name != "dot_general":
        return []
    left, right = node.inputs
    pairs = zip(*params["dimension_numbers"][0], strict=True)
    return [(left.axes[one], right.axes[other]) for one, other in pairs]


def summands(node: Node) -> Array:
    """Return how many numbers a sum or dot adds up, which may be symbolic; of all else 1."""
    return prod(axes[0].size for axes in summed_axes(node))


def with_means(body: Body, rules: Callable[[JaxprEqn], Rule | None]) -> Body:
    """Return a labelled jaxpr whose sums say what the program divides them by, if anything.

    A sum is a mean where every use of it divides by the number of its summands, or by k less where
    the program computes `number - k` or names the number less one. A dot of two computed arrays is
    a sum of products; one with a kernel is no mean: what divides it scales the kernel.

    Args:
        body: the jaxpr; what its loops, branches and derivative rules hold says so already.
        rules: the rule of an equation.
    """
    return _marked(Scope(body, rules))


def _marked(scope: Scope) -> Body:
    nodes = []
    for index, node in enumerate(scope.body.nodes):
        if index in scope.calls:
            node = node._replace(bodies=(_marked(scope.calls[index]),))
        elif is_long(count := summands(node)) and _is_inexact(node):
            node = node._replace(divided=_divided(scope, node, count))
        nodes.append(node)
    return replace(scope.body, nodes=nodes)


def _is_inexact(node: Node) -> bool:
    aval: Array = node.equation.outvars[0].aval
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _divided(scope: Scope, node: Node, count: Array) -> Divided | None:
    """Return what a sum is divided by; of uses that differ, one of them, and that it is no mean."""
    uses = divisions(scope, node.equation.outvars[0], count)
    kinds = {use.ddof for use in uses}
    is_mean, is_scaled = len(kinds) == 1 and None not in kinds, _has_kernel(node)
    if is_mean and not is_scaled:
        return uses[0]
    if is_scaled and not is_mean:
        return None
    return next((use._replace(ddof=None) for use in uses if use.by > 1), None)


def _has_kernel(node: Node) -> bool:
    """Tell whether a dot multiplies by a kernel: what the variables alone give, not by itself."""
    atoms = node.equation.invars
    if len(atoms) == 1 or atoms[0] is atoms[1] or any(map(_is_constant, node.inputs)):
        return False
    return any(value.origin is not None for value in node.inputs)


def _is_constant(value: Value) -> bool:
    return value.origin is not None and not value.origin.leaves
