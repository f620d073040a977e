"""Run a factorized kernel: two dots or two convolutions where the original had one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax import lax

from jaxcompress.graph.internals import source_line
from jaxcompress.graph.interpret import Node, Rewriting

__all__ = ["Factored", "two_ops"]

PASSED = ("transpose", "reshape", "squeeze", "copy", "copy_p")


class Factored(NamedTuple):
    """A kernel given by its two factors, as they are contracted.

    Attributes:
        first: kernel of the first operation.
        second: kernel of the second.
    """

    first: Any
    second: Any


def two_ops(forms: Mapping[str, str]) -> Any:
    """Return what runs factorized kernels in an interpreted jaxpr.

    Args:
        forms: "dense", "channel" or "spatial" by path of the kernel.
    """

    def substitute(rewriting: Rewriting, node: Node, arrays: list[Any]) -> Sequence[Any] | None:
        positions = [i for i, array in enumerate(arrays) if isinstance(array, Factored)]
        if not positions:
            return None
        name = node.equation.primitive.name
        if node.bodies:
            return _enter(rewriting, node, arrays)
        if name in PASSED:
            return [arrays[0]]
        if name == "convert_element_type":
            dtype = node.equation.params["new_dtype"]
            return [Factored(*(factor.astype(dtype) for factor in arrays[0]))]
        path = node.inputs[positions[0]].leaf
        if len(positions) > 1 or name not in ("dot_general", "conv_general_dilated"):
            raise NotImplementedError(
                f"a factorized kernel may only be contracted, but {name} at "
                f"{source_line(node.equation)} reads {path}; leave that site alone (rank None)"
            )
        if name == "dot_general":
            return [_two_dots(node, arrays, positions[0])]
        assert path is not None
        return [_two_convolutions(node, arrays[0], arrays[1], forms[path])]

    return substitute


def _enter(rewriting: Rewriting, node: Node, arrays: list[Any]) -> Sequence[Any]:
    """Run a nested jaxpr through its rule, so that its equations are substituted too."""
    rule = rewriting.rules(node.equation)
    assert rule is not None and rule.rebind is not None
    return rule.rebind(rewriting, node, arrays)


def _two_dots(node: Node, arrays: Sequence[Any], position: int) -> Any:
    """Contract with the first factor, then with the second, in the original order of results."""
    params = node.equation.params
    options = {
        "precision": params["precision"],
        "preferred_element_type": params["preferred_element_type"],
    }
    contracted, _ = params["dimension_numbers"]
    kernel, other = arrays[position], arrays[1 - position]
    # The first factor's leading dimensions are the contracted ones, in the order of the pairs.
    own = tuple(range(len(contracted[position])))
    numbers = ((tuple(contracted[1 - position]), own), ((), ()))
    middle = lax.dot_general(other, kernel.first, numbers, **options)
    last = middle.ndim - 1
    if position == 1:
        return lax.dot_general(middle, kernel.second, (((last,), (0,)), ((), ())), **options)
    return lax.dot_general(kernel.second, middle, (((0,), (last,)), ((), ())), **options)


def _two_convolutions(node: Node, image: Any, kernel: Factored, form: str) -> Any:
    """Convolve twice; the exact split strides each axis where its own window is applied.

    The released code of ENC strides both axes in the first convolution, which subsamples columns
    before the second window sees them; that is not the original convolution.
    """
    params = node.equation.params
    count = len(params["window_strides"])
    own: dict[str, Any] = {
        "window_strides": tuple(params["window_strides"]),
        "padding": tuple(params["padding"]),
        "lhs_dilation": tuple(params["lhs_dilation"] or (1,) * count),
        "rhs_dilation": tuple(params["rhs_dilation"] or (1,) * count),
    }
    still: dict[str, Any] = {
        "window_strides": (1,) * count,
        "padding": ((0, 0),) * count,
        "lhs_dilation": (1,) * count,
        "rhs_dilation": (1,) * count,
    }
    first: dict[str, Any] = own
    second: dict[str, Any] = still
    if form == "spatial":
        first = {key: (own[key][0], still[key][1]) for key in own}
        second = {key: (still[key][0], own[key][1]) for key in own}
    shared: dict[str, Any] = {
        "dimension_numbers": params["dimension_numbers"],
        "feature_group_count": params["feature_group_count"],
        "precision": params["precision"],
        "preferred_element_type": params["preferred_element_type"],
    }
    middle = lax.conv_general_dilated(image, kernel.first, **first, **shared)
    return lax.conv_general_dilated(middle, kernel.second, **second, **shared)
