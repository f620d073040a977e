"""Rules of programs for many devices: `shard_map`, and what devices send each other inside it.

Each device holds a piece of every axis that a specification splits, so such an axis keeps its size;
all others are whole on every device and lose channels there as anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import closed, shape_of
from jaxcompress.graph.interpret import Node, Outcome, Rewriting, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.reading import unknown

__all__ = ["RULES"]


def _split_axes(spec: Sequence[Any], rank: int) -> list[tuple[str, ...]]:
    """Return the mesh axes that each dimension is split over.

    Example:
        >>> _split_axes(jax.sharding.PartitionSpec("d", None, ("m", "n")), 4)
        [('d',), (), ('m', 'n'), ()]
    """
    entries = [*spec, *[None] * (rank - len(spec))]
    return [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in entries]


def _split(
    labelling: Labelling, equation: JaxprEqn, axis: Axis, names: Sequence[str], size: int
) -> Axis:
    """Return the other side of an axis that may be split: of `size`, and then fixed."""
    if not names:
        return axis
    reason = f"shard_map splits it over {', '.join(names)}"
    labelling.pin(equation, axis, reason)
    return axis if axis.size == size else Axis(size, reason=reason)


def shard_map(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Label the program of one device, given its pieces; the cost is that of all devices."""
    params, inner = equation.params, closed(equation.params["jaxpr"])
    pieces = []
    for value, spec, variable in zip(inputs, params["in_specs"], inner.jaxpr.invars, strict=True):
        names = _split_axes(spec, len(value.axes))
        sides = zip(value.axes, names, shape_of(variable), strict=True)
        axes = tuple(_split(labelling, equation, *each) for each in sides)
        pieces.append(Value(axes) if any(names) else value)
    with labelling.scope(Axis(_pieces(params["mesh"].shape, params["in_specs"]))):
        body = labelling.enter(inner, pieces)
    labelling.use(body.outputs)
    outputs = []
    for value, spec, variable in zip(
        body.outputs, params["out_specs"], equation.outvars, strict=True
    ):
        sides = zip(value.axes, _split_axes(spec, len(value.axes)), shape_of(variable), strict=True)
        outputs.append(Value(tuple(_split(labelling, equation, *each) for each in sides)))
    return Outcome(outputs, (body,))


def _pieces(sizes: Mapping[str, int], specs: Iterable[Sequence[Any]]) -> int:
    """Return over how many devices the operands are split."""
    used = {name for spec in specs for names in _split_axes(spec, len(spec)) for name in names}
    return prod(sizes[name] for name in used)


def rebind_shard_map(rewriting: Rewriting, node: Node, arrays: Sequence[Array]) -> list[Array]:
    """Map the smaller program over the same devices."""
    params = node.equation.params
    smaller = jax.shard_map(
        lambda *values: tuple(rewriting(node.bodies[0], values)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        axis_names=set(params.get("newly_manual_axes", params.get("manual_axes", ()))),
        check_vma=params["check_vma"],
    )
    return list(smaller(*arrays))


def passed(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Send every operand on as it is."""
    return Outcome([Value(value.axes) for value in inputs])


def exchanged(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pin the axes along which pieces are gathered, scattered or exchanged; pass the others."""
    if equation.primitive.name == "all_to_all" and not equation.params["tiled"]:
        return unknown(labelling, equation, inputs)
    pairs = zip(inputs, equation.outvars, strict=True)
    return Outcome([_moved(labelling, equation, value, shape_of(new)) for value, new in pairs])


def _moved(labelling: Labelling, equation: JaxprEqn, value: Value, shape: Sequence[int]) -> Value:
    reason = f"{equation.primitive.name} moves its indices between devices"
    along = {equation.params[key] for key in DIMENSIONS if key in equation.params}
    axes: list[Axis] = list(value.axes)
    for dimension in along:
        if len(shape) > len(value.axes):  # gathered along an axis of its own
            axes.insert(dimension, Axis(shape[dimension], reason=reason))
            continue
        labelling.pin(equation, axes[dimension], reason)
        fixed = [Axis(shape[dimension], reason=reason)] if len(shape) == len(axes) else []
        axes[dimension : dimension + 1] = fixed
    return Value(tuple(axes))


DIMENSIONS = "all_gather_dimension scatter_dimension split_axis concat_axis".split()
EXCHANGES = "all_gather all_gather_invariant all_to_all reduce_scatter"

RULES = {
    "shard_map": Rule(shard_map, rebind_shard_map),
    **{name: Rule(passed) for name in ("ppermute", "pbroadcast")},
    **{name: Rule(exchanged) for name in EXCHANGES.split()},
}
