"""Running a function on variables that were turned: what it does to all channels alike changes.

With Q's last column 1/sqrt(C), the vector of ones turns to e = sqrt(C) (0, .., 0, 1): a sum over
channels is one over x e, and what is added to all of them is multiplied by e first. A scale that is
a matrix multiplies channels as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten
from jaxcompress.prune.rotation.record import Action

__all__ = ["ScaleMatrix", "run_turned"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScaleMatrix:
    """A scale on its way to the channels that it scales.

    Attributes:
        factor: the scale as if it were 1, times whatever it met.
        matrix: Q^T diag(scale) Q; inside a scan, of one step.
    """

    factor: Array
    matrix: Array


def run_turned(
    labelled: LabelledProgram,
    actions: Mapping[int, Action],
    width: int,
    leaves: Iterable[Array],
    inputs: Sequence[PyTree],
    keywords: Mapping[str, PyTree],
) -> PyTree:
    """Run a function on turned variables.

    Args:
        labelled: the function's program, of the leaves before.
        actions: what changes, by the identity of the node.
        width: C, the channels of the stream.
        leaves: of the variables, in order; those that are matrices are `ScaleMatrix`.
        inputs: the arguments after the variables.
        keywords: the function's keyword arguments.
    """
    ones = np.zeros(width, np.float32)
    ones[-1] = np.sqrt(width)

    def substitute(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array] | None:
        action = actions.get(id(node))
        if action is not None:
            return [_changed(node, action, arrays, ones)]
        marked = [array for array in arrays if isinstance(array, ScaleMatrix)]
        if node.bodies and (marked or _holds(node, actions)):
            rule = rewriting.rules(node.equation)
            assert rule is not None and rule.rebind is not None
            return rule.rebind(rewriting, node, arrays)
        if not marked:
            return None
        results = bind(node.equation, [_factor(array) for array in arrays])
        return [ScaleMatrix(result, marked[0].matrix) for result in results]

    none = np.zeros(labelled.labelling.count, bool)
    rewriting = Rewriting(none, rule_of, substitute=substitute)
    return run_rewritten(labelled, rewriting, leaves, inputs, keywords)


def _holds(node: Node, actions: Mapping[int, Action]) -> bool:
    inside = [inner for body in node.bodies for inner in body.nodes]
    return any(id(inner) in actions or _holds(inner, actions) for inner in inside)


def _factor(array: Array) -> Array:
    return array.factor if isinstance(array, ScaleMatrix) else array


def _changed(node: Node, action: Action, arrays: Sequence[Array], ones: np.ndarray) -> Array:
    """Compute one equation in the turned channels."""
    operands = [_factor(array) for array in arrays]
    if action.kind == "matrix":
        (scaled,) = bind(node.equation, operands)
        matrix = arrays[action.operand].matrix.astype(scaled.dtype)
        turned = jnp.matmul(jnp.moveaxis(scaled, action.axis, -1), matrix)
        return jnp.moveaxis(turned, -1, action.axis)
    operand, rank = operands[action.operand], len(node.inputs[action.operand].axes)
    rank = len(node.outputs[0].axes) if action.kind == "add" else rank
    shape = [-1 if place == action.axis else 1 for place in range(rank)]
    operands[action.operand] = operand * jnp.asarray(ones, operand.dtype).reshape(shape)
    return bind(node.equation, operands)[0]
