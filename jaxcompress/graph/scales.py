"""Which leaves scale channels: one number each, by which what depends on inputs is multiplied."""

from __future__ import annotations

from collections.abc import Iterator

from jaxcompress.graph.interpret import Body, Node
from jaxcompress.graph.origins import REARRANGING, Origin
from jaxcompress.graph.program import LabelledProgram

__all__ = ["scale_leaves"]

PASSING = (*REARRANGING, "broadcast_in_dim", "mul")


def scale_leaves(labelled: LabelledProgram) -> tuple[str, ...]:
    """Return the paths of the leaves `[width]`, or stacked `[steps, width]`, that products take.

    The other operand depends on the inputs; the factor is the leaf alone, or a product with it, as
    where BatchNorm multiplies its scale by 1 / sqrt(variance + epsilon) first. A scale that
    something is added to before (`1 + scale`) is none.
    """
    ranks = {path: len(aval.shape) for path, aval in labelled.program.leaves.items()}
    factors = [
        factor
        for node in _nodes(labelled.body)
        if node.equation.primitive.name == "mul" and any(v.origin is None for v in node.inputs)
        for value in node.inputs
        if value.origin is not None
        for factor in _factors(value.origin)
    ]
    return tuple(dict.fromkeys(path for path, steps in factors if ranks[path] == 1 + steps))


def _nodes(body: Body) -> Iterator[Node]:
    for node in body.nodes:
        yield node
        for inner in node.bodies:
            yield from _nodes(inner)


def _factors(origin: Origin) -> Iterator[tuple[str, int]]:
    """Yield the leaves that a product is made of, and in how many scans each is sliced."""
    if origin.leaf is not None:
        yield origin.leaf, 0
    elif origin.is_slice:
        for path, steps in _factors(origin.inputs[0]):
            yield path, steps + 1
    elif origin.equation is not None and origin.equation.primitive.name in PASSING:
        for operand in origin.inputs:
            yield from _factors(operand)
