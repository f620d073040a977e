"""Run a factorized kernel: two dots or two convolutions where the original had one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jax import lax
from jax.typing import DTypeLike

from jaxcompress.annotations import Array
from jaxcompress.compression.standing_in import Contract
from jaxcompress.graph.interpret import Node

__all__ = ["Factored", "first_operation", "second_operation", "two_ops"]


class Factored(NamedTuple):
    """A kernel given by its two factors, as they are contracted.

    Attributes:
        first: kernel of the first operation.
        second: kernel of the second.
    """

    first: Any
    second: Any

    def astype(self, dtype: DTypeLike) -> Factored:
        """Return the same factors in another dtype."""
        return Factored(self.first.astype(dtype), self.second.astype(dtype))


def two_ops(forms: Mapping[str, str]) -> Contract:
    """Return what contracts an operand with a factorized kernel.

    Args:
        forms: "dense", "channel" or "spatial" by path of the kernel.
    """

    def contract(path: str, node: Node, other: Array, kernel: Any, position: int) -> Array:
        middle = first_operation(node, other, kernel.first, position, forms[path])
        return second_operation(node, middle, kernel.second, position, forms[path])

    return contract


def first_operation(node: Node, other: Array, factor: Array, position: int, form: str) -> Array:
    """Contract the other operand with a first factor; the middle axis is called r.

    Args:
        node: the dot or convolution with the whole kernel.
        other: the operand that is not the kernel.
        factor: for a dot `[contracted..., r]`, else a convolution's kernel with r outputs.
        position: of the kernel among the operands.
        form: "dense", "channel" or "spatial".

    Returns:
        For a dot `[..., r]`, for a convolution an image with r channels.
    """
    params = node.equation.params
    if node.equation.primitive.name == "dot_general":
        contracted, _ = params["dimension_numbers"]
        # The factor's leading dimensions are the contracted ones, in the order of the pairs.
        leading = tuple(range(len(contracted[position])))
        numbers = ((tuple(contracted[1 - position]), leading), ((), ()))
        return lax.dot_general(other, factor, numbers, **_options(params))
    options = _convolutions(params, form)[0]
    return lax.conv_general_dilated(other, factor, **options)


def second_operation(node: Node, middle: Any, factor: Array, position: int, form: str) -> Array:
    """Contract what `first_operation` gives with a second factor, in the original's layout."""
    params = node.equation.params
    if node.equation.primitive.name == "dot_general":
        last = middle.ndim - 1
        if position == 1:
            numbers = (((last,), (0,)), ((), ()))
            return lax.dot_general(middle, factor, numbers, **_options(params))
        return lax.dot_general(factor, middle, (((0,), (last,)), ((), ())), **_options(params))
    options = _convolutions(params, form)[1]
    return lax.conv_general_dilated(middle, factor, **options)


def _options(params: Mapping[str, Array]) -> dict[str, Array]:
    return {name: params[name] for name in ("precision", "preferred_element_type")}


def _convolutions(params: Mapping[str, Array], form: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of both convolutions.

    The exact split strides each axis where its own window is applied. The released code of ENC
    strides both axes in the first convolution, which subsamples columns before the second window
    sees them; that is not the original convolution.
    """
    count = len(params["window_strides"])
    windowed: dict[str, Array] = {
        "window_strides": tuple(params["window_strides"]),
        "padding": tuple(params["padding"]),
        "lhs_dilation": tuple(params["lhs_dilation"] or (1,) * count),
        "rhs_dilation": tuple(params["rhs_dilation"] or (1,) * count),
    }
    still: dict[str, Array] = {
        "window_strides": (1,) * count,
        "padding": ((0, 0),) * count,
        "lhs_dilation": (1,) * count,
        "rhs_dilation": (1,) * count,
    }
    first, second = windowed, still
    if form == "spatial":
        first = {key: (windowed[key][0], still[key][1]) for key in windowed}
        second = {key: (still[key][0], windowed[key][1]) for key in windowed}
    shared = {name: params[name] for name in ("dimension_numbers", "feature_group_count")}
    shared |= _options(params)
    return {**first, **shared}, {**second, **shared}
