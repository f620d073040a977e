"""Kernels for which something else stands: two factors, or integers and their scales.

What stands in is a NamedTuple of arrays, shaped as the kernel is contracted, with the axes of scans
in front. It passes what only rearranges the kernel, and is contracted in a way of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.tree_util import PyTreeDef

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph.internals import bind, source_line
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.program import label_program, read
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten

__all__ = ["Contract", "run_standing_in"]

# A sharding is asked for the kernel as a whole: what stands for it lies where it is put.
PASSED = ("transpose", "reshape", "squeeze", "copy", "copy_p", "sharding_constraint")

Contract: TypeAlias = Callable[[str, Node, Any, Any, int], Any]
"""`contract(path, node, other operand, stand-in, its position) -> result`."""


def run_standing_in(
    f: Function,
    original: tuple[PyTreeDef, Mapping[str, Array]],
    stand_ins: Mapping[str, Any],
    contract: Contract,
    inputs: tuple[PyTree, ...],
    keywords: dict[str, PyTree],
) -> PyTree:
    """Run a function with stand-ins for some of its leaves.

    Args:
        f: of (variables, *inputs).
        original: the structure of its variables, and by path, in its order, their leaves; of those
            that something stands for the abstract values.
        stand_ins: by path: NamedTuples with a method `astype`.
        contract: what a convolution or dot with one gives.
        inputs: the arguments after the variables.
        keywords: the function's keyword arguments.

    Raises:
        NotImplementedError: if the function does anything but contract such a leaf.
    """
    treedef, leaves = original
    program = read(f, jax.tree.unflatten(treedef, list(leaves.values())), inputs, keywords)
    labelled = label_program(program, discover=False)
    kinds = tuple({type(stand_in) for stand_in in stand_ins.values()})
    none = np.zeros(labelled.labelling.count, bool)
    rewriting = Rewriting(none, rule_of, substitute=_substitute(kinds, contract))
    values = [stand_ins.get(path, leaf) for path, leaf in leaves.items()]
    return run_rewritten(labelled, rewriting, values, inputs, keywords)


def _substitute(kinds: tuple[type, ...], contract: Contract) -> Any:
    def substitute(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array] | None:
        positions = [i for i, array in enumerate(arrays) if isinstance(array, kinds)]
        if not positions:
            return None
        name = node.equation.primitive.name
        if node.bodies:
            return _enter(rewriting, node, arrays)
        if name in PASSED:
            return [arrays[0]]
        if name in ("pcast", "pvary"):
            return [jax.tree.map(lambda array: bind(node.equation, [array])[0], arrays[0])]
        if name == "convert_element_type":
            return [arrays[0].astype(node.equation.params["new_dtype"])]
        path = node.inputs[positions[0]].leaf
        if len(positions) > 1 or name not in ("dot_general", "conv_general_dilated"):
            raise NotImplementedError(
                f"a kernel that was replaced may only be contracted, but {name} at "
                f"{source_line(node.equation)} reads {path}; leave that site alone"
            )
        assert path is not None
        position = positions[0]
        return [contract(path, node, arrays[1 - position], arrays[position], position)]

    return substitute


def _enter(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array]:
    """Run a nested jaxpr through its rule, so that its equations are substituted too."""
    rule = rewriting.rules(node.equation)
    assert rule is not None and rule.rebind is not None
    return rule.rebind(rewriting, node, arrays)
