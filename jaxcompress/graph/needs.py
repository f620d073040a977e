"""What an array needs of the groups: to depend on the inputs, and not to be zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array

__all__ = ["Needs", "constant", "either", "result"]

EVERY = -1
"""The set of all groups; sets of groups are bits."""

PRODUCTS = "conv_general_dilated div dot_general mul ragged_dot_general".split()
SUMS = """
add add_any concatenate dynamic_update_slice pad scatter scatter-add scatter_add sub
""".split()
NEVER_ZERO = "cos cosh erfc exp exp2 logistic".split()


class Needs(NamedTuple):
    """The groups that an array needs, as sets.

    Attributes:
        inputs: without any one of them it does not depend on the inputs; all if it never does.
        zero: without any one of them all its entries may be zero.
    """

    inputs: int
    zero: int = 0

    @property
    def depends(self) -> bool:
        """Whether it depends on the inputs as long as all groups are there."""
        return self.inputs != EVERY

    def without(self, ended: int) -> Needs:
        """Return what a result needs of it where the axes of some groups end."""
        return Needs(self.inputs | ended, self.zero | ended)


def constant(is_zero: bool) -> Needs:
    """Return what an array needs that does not depend on the inputs."""
    return Needs(EVERY, EVERY if is_zero else 0)


def either(values: Iterable[Needs]) -> Needs:
    """Return what one or the other needs of those that depend on the inputs, where any does."""
    values = list(values)
    some = [one for one in values if one.depends] or values
    return Needs(*(reduce(or_, sets) for sets in zip(*some, strict=True)))


def result(equation: JaxprEqn, needs: Sequence[Needs]) -> Needs:
    """Return what an equation's results need, given its operands.

    A sum is zero where all operands are, and depends on what any of them depends on; a product is
    zero where one operand is. Of what else has no entry here, any operand that depends on the
    inputs may make it zero: activations and comparisons do.
    """
    name = equation.primitive.name
    if not needs or not equation.outvars:
        return constant(False)
    inputs, zero = reduce(and_, (one.inputs for one in needs)), 0
    if name in PRODUCTS:
        zero = reduce(or_, (one.zero for one in needs))
        inputs |= zero
    elif name not in NEVER_ZERO:
        alike = _of_results_type(equation, needs)
        if name not in SUMS:
            alike = [one for one in alike if one.depends] or alike
        zero = reduce(and_ if name in SUMS else or_, (one.zero for one in alike))
    return Needs(inputs, zero)


def _of_results_type(equation: JaxprEqn, needs: Sequence[Needs]) -> list[Needs]:
    """Return the operands that are not conditions, indices or unused; all, if there is no other."""
    if equation.primitive.name == "pad":
        widened = any(max(config) > 0 for config in equation.params["padding_config"])
        return list(needs[: 2 if widened else 1])
    kinds: list[Array] = [getattr(atom.aval, "dtype", None) for atom in equation.invars]
    kind: Array = getattr(equation.outvars[0].aval, "dtype", None)
    return [one for one, other in zip(needs, kinds, strict=True) if other == kind] or list(needs)
