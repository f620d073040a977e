"""Rules of random draws: drawn at full shape, then taken, so that values ignore the keep."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value, whole
from jaxcompress.graph.internals import bind, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Kind, Labelling

__all__ = ["RULES", "drawn", "rebind_drawn"]


def drawn(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label a newly made array freely: it can have any indices that its users keep."""
    shape = shape_of(equation.outvars[0])
    return Outcome([labelling.fresh_value(shape, Kind.FREE)])


def rebind_drawn(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Make the array at its original shape and take what is kept."""
    (array,) = bind(node.equation, arrays)
    return [rewriting.take(array, node.outputs[0])]


def key(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Keys have no channels."""
    labelling.pin_all(equation, inputs, "it is the data of a random key")
    return Outcome([whole(shape_of(variable)) for variable in equation.outvars])


KEYS = "random_clone random_fold_in random_seed random_split random_unwrap random_wrap threefry2x32"

RULES = {
    "random_bits": Rule(drawn, rebind_drawn),
    "iota": Rule(drawn, rebind_drawn),
    **{name: Rule(key) for name in KEYS.split()},
}
