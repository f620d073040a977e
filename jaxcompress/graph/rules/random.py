"""Rules of random draws: drawn at full shape, then taken, so that values ignore the keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value, whole
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.selection import select

__all__ = ["RULES", "drawn", "rebind_drawn"]


def drawn(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label a newly made array freely: it can have any indices that its users keep."""
    shape = shape_of(equation.outvars[0])
    return Outcome([labelling.fresh_value(shape, Kind.FREE)])


def rebind_drawn(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Make the array at its original shape and take what is kept."""
    (array,) = bind(node.equation, arrays)
    return [rewriting.take(array, node.outputs[0])]


def split(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """New keys, one for each step of a loop or example, are any of which its users keep some."""
    labelling.pin_all(equation, inputs, "it is the data of a random key")
    shape, given = shape_of(equation.outvars[0]), len(inputs[0].axes)
    made = labelling.fresh_value(shape[given:], Kind.FREE)
    return Outcome([Value((*whole(shape[:given]).axes, *made.axes))])


def as_data(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """The numbers that a key consists of come after the axes of the keys."""
    shape, axes = shape_of(equation.outvars[0]), inputs[0].axes
    return Outcome([Value((*axes, *whole(shape[len(axes) :]).axes))])


def as_key(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """The last axes of a key's data are inside the key."""
    inside = len(shape_of(equation.outvars[0]))
    for axis in inputs[0].axes[inside:]:
        labelling.pin(equation, axis, "it is the data of a random key")
    return Outcome([Value(inputs[0].axes[:inside])])


def gamma(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Draw one number for each parameter; every key draws for a whole array of them."""
    keys, parameters = inputs
    axes = list(parameters.axes)
    for dimension, axis in enumerate(keys.axes):
        axes[dimension] = labelling.tie(equation, axis, axes[dimension])
        labelling.pin(equation, axes[dimension], "it is the data of a random key")
    return Outcome([Value(tuple(axes))])


def rebind_gamma(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Draw at the original shape, with any parameters in the places that are gone."""
    keys, parameters = arrays
    if 0 in parameters.shape:
        return [parameters]
    for dimension, axis in enumerate(node.inputs[1].axes):
        kept = rewriting.kept(axis)
        if kept is not None:
            places = np.zeros(axis.size, np.int64)
            places[kept] = np.arange(len(kept))
            parameters = select(parameters, places, dimension, distinct=False)
    return rebind_drawn(rewriting, node, [keys, parameters])


def key(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Keys have no channels."""
    labelling.pin_all(equation, inputs, "it is the data of a random key")
    return Outcome([whole(shape_of(variable)) for variable in equation.outvars])


KEYS = "random_clone random_fold_in random_seed threefry2x32"

RULES = {
    "random_bits": Rule(drawn, rebind_drawn),
    "iota": Rule(drawn, rebind_drawn),
    "random_split": Rule(split, rebind_drawn),
    "random_gamma": Rule(gamma, rebind_gamma),
    "random_unwrap": Rule(as_data),
    "random_wrap": Rule(as_key),
    **{name: Rule(key) for name in KEYS.split()},
}
