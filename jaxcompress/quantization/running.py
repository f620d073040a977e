"""Running a function on codes, or on floats that are rounded as the codes would be.

Both contract what `quantize` describes: kernels with a scale per output or tile, inputs as they are
("float"), with a scale per example or row from their own largest entry ("dynamic"), or with one
that was found before ("static").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxcompress.annotations import Array
from jaxcompress.compression.standing_in import Contract
from jaxcompress.graph.internals import bind, dtype_of
from jaxcompress.graph.interpret import Node
from jaxcompress.quantization.library import coded, coded_statically, contracted, dequantized

__all__ = ["Codes", "Rounded", "contract_codes", "contract_rounded", "straight_through"]

Sites = Mapping[str, Mapping[str, Any]]


class Codes(NamedTuple):
    """A kernel given by integers, as it is contracted.

    Attributes:
        codes: `int8`, of the kernel's shape.
        scales: float32, of size 1 along the axes that share them.
        largest: of static inputs, what gets the largest code; else None.
    """

    codes: Any
    scales: Any
    largest: Any = None

    def astype(self, dtype: DTypeLike) -> Codes:
        """Return it as it is: the result of a contraction has the dtype that is asked there."""
        del dtype
        return self


class Rounded(NamedTuple):
    """A kernel of floats that codes could stand for, as it is contracted.

    Attributes:
        kernel: floats.
        largest: as of `Codes`.
    """

    kernel: Any
    largest: Any = None

    def astype(self, dtype: DTypeLike) -> Rounded:
        """Return it in another dtype."""
        return Rounded(self.kernel.astype(dtype), self.largest)


@jax.custom_jvp
def straight_through(value: jax.Array, rounded: jax.Array) -> jax.Array:
    """Return `rounded`, with the gradient of `value` (Bengio et al. 2013, section 4).

    Example:
        >>> jax.grad(lambda x: straight_through(x, jnp.round(x)) ** 2)(1.6).item()
        4.0
    """
    del value
    return rounded


@straight_through.defjvp
def _straight_through_jvp(primals: Any, tangents: Any) -> Any:
    return primals[1], tangents[0]


def contract_codes(sites: Sites, in_integers: bool = True) -> Contract:
    """Return what contracts an operand with `Codes`.

    Float inputs are contracted with scale x code; others are rounded to codes, contracted in
    integers and scaled.

    Args:
        sites: described, by path.
        in_integers: False: what codes stand for is contracted in floats.
    """

    def contract(path: str, node: Node, other: Array, kernel: Any, position: int) -> Array:
        equation = node.equation
        is_float = sites[path]["activations"] == "float"
        rounded = None if is_float else _coded_input(other, kernel.largest, node, position)
        if rounded is None or not in_integers:
            pair = _ordered(
                position,
                dequantized(kernel.codes, kernel.scales),
                other if rounded is None else dequantized(*rounded),
            )
            dtypes = [dtype_of(atom) for atom in equation.invars]
            wide = [array.astype(dtype) for array, dtype in zip(pair, dtypes, strict=True)]
            return bind(equation, wide)[0]
        operands = _ordered(position, (kernel.codes, kernel.scales), rounded)
        result = contracted(equation.primitive.name, operands, equation.params)
        return result.astype(dtype_of(equation.outvars[0]))

    return contract


def contract_rounded(sites: Sites) -> Contract:
    """Return what contracts an operand with `Rounded`: the same numbers, with a gradient.

    Of static inputs, those that are cut off have none.
    """

    def contract(path: str, node: Node, other: Array, kernel: Any, position: int) -> Array:
        if sites[path]["activations"] != "float":
            rounded = dequantized(*_coded_input(other, kernel.largest, node, position))
            seen = other
            if kernel.largest is not None:
                limit = kernel.largest.astype(other.dtype)
                seen = jnp.clip(other, -limit, limit)
            other = straight_through(seen, rounded.astype(other.dtype))
        return bind(node.equation, _ordered(position, kernel.kernel, other))[0]

    return contract


def _ordered(position: int, kernel: Any, other: Any) -> list[Any]:
    return [other, kernel] if position == 1 else [kernel, other]


def _coded_input(
    array: Array, largest: Array | None, node: Node, position: int
) -> tuple[jax.Array, jax.Array]:
    """Round what a kernel is given to codes of 8 bits."""
    wide = jnp.asarray(array).astype(jnp.float32)
    if largest is not None:
        return coded_statically(wide, largest)
    return coded(wide, _kept_axes(node, 1 - position, wide.ndim), 8, {})


def _kept_axes(node: Node, position: int, count: int) -> list[int]:
    """Return the axes of an input that are not summed over: each index has a scale of its own."""
    numbers = node.equation.params["dimension_numbers"]
    if node.equation.primitive.name == "dot_general":
        return [axis for axis in range(count) if axis not in numbers[0][position]]
    return [numbers.lhs_spec[0]]
