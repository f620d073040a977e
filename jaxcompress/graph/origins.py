"""Where a value comes from, as long as that is the variables alone: an expression of leaves.

A kernel that is scaled, standardised, dequantised or updated by a product of two small matrices is
a function of the variables, whatever the inputs are. While a jaxpr is read, each such value keeps
the equation that made it and the origins of its operands; nothing is computed before it is asked
for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array
from jaxcompress.graph.internals import bind

if TYPE_CHECKING:
    from jaxcompress.graph.axes import Value
    from jaxcompress.graph.interpret import Outcome

__all__ = ["PLACED", "Origin", "constant", "evaluate", "of_leaf", "sliced", "with_origins"]

PLACED = ("pcast", "pvary", "sharding_constraint")
"""Say where a value lies, or on which devices it differs; they change none of its entries."""

REARRANGING = (*PLACED, "transpose", "reshape", "squeeze", "copy", "copy_p", "convert_element_type")


@dataclass(frozen=True, eq=False)
class Origin:
    """One value that depends on the variables alone.

    Attributes:
        shape: of the value; inside a scan, of one step.
        leaf: path of the leaf that it is.
        constant: the array that the program holds.
        equation: what computed it otherwise; a scan where it is one step of a stacked value.
        position: which result of the equation.
        inputs: what it was computed from.
        scans: the scans in whose steps it has another value each, the outermost first.
    """

    shape: tuple[int, ...]
    leaf: str | None = None
    constant: Array | None = None
    equation: JaxprEqn | None = None
    position: int = 0
    inputs: tuple[Origin, ...] = ()
    scans: tuple[JaxprEqn, ...] = ()

    @property
    def is_slice(self) -> bool:
        """Whether it is one step of what a scan runs over."""
        return bool(self.scans) and self.equation is self.scans[-1]

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The paths of the leaves that it depends on."""
        alone = frozenset() if self.leaf is None else frozenset([self.leaf])
        return alone.union(*(origin.leaves for origin in self.inputs))

    @cached_property
    def digest(self) -> str:
        """Tells expressions apart: equal for what the same code computes from the same leaves."""
        parts = [origin.digest for origin in self.inputs]
        if self.leaf is not None:
            parts.append(f"leaf {self.leaf}")
        elif self.constant is not None:
            held = np.asarray(self.constant)
            parts += [str(held.dtype), str(held.shape), held.tobytes().hex()]
        elif self.is_slice:
            parts.append("slice")
        elif self.equation is not None:
            parts += [self.equation.primitive.name, str(self.position), _text(self.equation.params)]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    @property
    def computed(self) -> Origin:
        """The value before it was merely rearranged, converted or taken from a stack."""
        if self.equation is None:
            return self
        is_moved = self.is_slice or self.equation.primitive.name in REARRANGING
        return self.inputs[0].computed if is_moved else self

    @property
    def stacked_shape(self) -> tuple[int, ...]:
        """The shape of all steps together."""
        return (*(scan.params["length"] for scan in self.scans), *self.shape)


def _text(params: Mapping[str, object]) -> str:
    """Write an equation's parameters without what differs between two readings of it."""
    words = [f"{name}={_parameter(params[name])}" for name in sorted(params)]
    return re.sub(r" at 0x[0-9a-f]+", "", ", ".join(words))


def _parameter(value: object) -> str:
    return getattr(value, "__qualname__", "function") if callable(value) else str(value)


def of_leaf(path: str, shape: Sequence[int]) -> Origin:
    """Return the origin of a leaf."""
    return Origin(tuple(shape), leaf=path)


def constant(array: Array) -> Origin | None:
    """Return the origin of an array that a program holds; None where it is being traced."""
    if isinstance(array, jax.core.Tracer):
        return None
    return Origin(np.shape(array), constant=array)


def sliced(origin: Origin | None, scan: JaxprEqn) -> Origin | None:
    """Return the origin of one step of a stacked value."""
    if origin is None:
        return None
    scans = (*origin.scans, scan)
    return Origin(origin.shape[1:], equation=scan, inputs=(origin,), scans=scans)


def with_origins(equation: JaxprEqn, inputs: Sequence[Value], outcome: Outcome) -> list[Value]:
    """Return an equation's results with what is known of their origin.

    A plain call hands on what its jaxpr returns; of everything else the results have an origin if
    all operands have, and none is in the steps of another scan.
    """
    handed_on = [value for body in outcome.bodies[:1] for value in body.outputs]
    known = [value.origin for value in inputs]
    origins = [origin for origin in known if origin is not None]
    scans = max((origin.scans for origin in origins), key=len, default=())
    is_known = len(origins) == len(known) and not equation.effects
    is_known = is_known and all(_is_prefix(origin.scans, scans) for origin in origins)
    results = []
    for position, value in enumerate(outcome.outputs):
        if position < len(handed_on) and value is handed_on[position]:
            results.append(value)
            continue
        origin = None
        if is_known:
            shape = tuple(axis.size for axis in value.axes)
            origin = Origin(shape, None, None, equation, position, tuple(origins), scans)
        results.append(value if value.origin is origin else replace(value, origin=origin))
    return results


def _is_prefix(some: Sequence[JaxprEqn], more: Sequence[JaxprEqn]) -> bool:
    return all(one is other for one, other in zip(some, more, strict=False))


def evaluate(
    origin: Origin, leaves: Mapping[str, Array], made: dict[Origin, Array] | None = None
) -> Array:
    """Compute a value from the leaves; of one in the steps of scans, all steps, stacked.

    Args:
        origin: what is computed.
        leaves: the leaves that it depends on, by path.
        made: what has been computed already.
    """
    made = {} if made is None else made
    if origin in made:
        return made[origin]
    if origin.leaf is not None:
        return leaves[origin.leaf]
    if origin.constant is not None:
        return origin.constant
    arrays = [evaluate(each, leaves, made) for each in origin.inputs]
    made[origin] = arrays[0] if origin.is_slice else _apply(origin, arrays)
    return made[origin]


def _apply(origin: Origin, arrays: Sequence[Array]) -> Array:
    equation = origin.equation
    assert equation is not None
    if equation.primitive.name in PLACED:
        return arrays[0]

    def function(*values: Array) -> Array:
        return bind(equation, values)[origin.position]

    for depth in reversed(range(len(origin.scans))):
        axes = [0 if len(each.scans) > depth else None for each in origin.inputs]
        function = jax.vmap(function, in_axes=axes)
    return function(*arrays)
