"""Exponentials of removed channels, which may overflow where those that stay do not.

A softmax subtracts the maximum over its channels first. Where that is the maximum over those that
stay, exp(removed - maximum) is infinite for a removed channel with a far larger logit: it is put to
0, and so are its gradients, since 0 times the slope of an infinite exponential would be NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.program import example_labels
from jaxcompress.graph.rules.control import is_plain_call

__all__ = ["bounded_exponentials"]

EXPONENTIALS = ("exp", "exp2", "expm1")


def bounded_exponentials(
    rewriting: Rewriting, node: Node, arrays: list[Array]
) -> Sequence[Array] | None:
    """Return an exponential without what overflows where a gate is 0; None for other equations.

    It is the `substitute` of a rewriting with gates: exp(x) is 0 where it is infinite and the gate
    of its channel 0, and otherwise as it is, gradients included.
    """
    if rewriting.gate is None:
        return None
    if node.equation.primitive.name not in EXPONENTIALS:
        return rewriting(node.bodies[0], arrays) if _holds_one(rewriting, node) else None
    (array,) = arrays
    factors = list(_factors(rewriting, node))
    if not factors:
        return None
    is_out = jnp.any(jnp.stack(jnp.broadcast_arrays(*factors)) == 0, axis=0)
    (plain,) = bind(node.equation, [jax.lax.stop_gradient(array)])
    is_over = is_out & jnp.isinf(plain)
    (made,) = bind(node.equation, [jnp.where(is_over, jnp.zeros_like(array), array)])
    return [jnp.where(is_over, jnp.zeros_like(made), made)]


def _holds_one(rewriting: Rewriting, node: Node) -> bool:
    """Whether a call that would otherwise run as it is holds an exponential with gates."""
    return is_plain_call(node.equation) and any(
        _holds_one(rewriting, inner)
        or (inner.equation.primitive.name in EXPONENTIALS and any(_gated(rewriting, inner)))
        for body in node.bodies
        for inner in body.nodes
    )


def _gated(rewriting: Rewriting, node: Node) -> Iterator[int]:
    """Yield the dimensions of a result whose channels have gates."""
    assert rewriting.gate is not None
    for dimension, axis in enumerate(node.outputs[0].axes):
        if axis.labels is not None and rewriting.gate.slots[axis.labels].any():
            yield dimension


def _factors(rewriting: Rewriting, node: Node) -> Iterator[jax.Array]:
    """Yield the gates of each axis of a result, in its shape."""
    gate, (value,) = rewriting.gate, node.outputs
    assert gate is not None
    for dimension in _gated(rewriting, node):
        if gate.arrays[0].ndim == 1 or _has_examples(rewriting, value):
            # As a sum of ones over the axis would be gated.
            shape = [1] * len(value.axes)
            shape[dimension] = value.axes[dimension].size
            operand = node._replace(inputs=[value], bodies=(), steps=None)
            yield from gate(operand, [(dimension,)], [jnp.ones(shape)])


def _has_examples(rewriting: Rewriting, value: Value) -> bool:
    assert rewriting.gate is not None
    labelling = rewriting.gate.labelling
    components = labelling.components()
    examples = components[example_labels(labelling)]
    labelled = [axis.labels for axis in value.axes if axis.labels is not None]
    return any(bool(np.isin(components[labels], examples).all()) for labels in labelled)
