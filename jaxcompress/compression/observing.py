"""Look at what the sites of a function are given, and change what they give, while it runs.

`visit` stops at any equations, `observe` at the convs and dots of some kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph import Graph
from jaxcompress.graph.internals import scan_counts
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.program import LabelledProgram, label_program, read
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten
from jaxcompress.paths import flatten_with_paths

__all__ = ["Look", "Visit", "observe", "over_uses", "visit"]

Look = Callable[[str, Node, Sequence[Any], int], Any]
"""`look(path, node, operands, position of the kernel) -> new output, or None to leave it`."""

Visit = Callable[[Node, list[Any]], Sequence[Any] | None]
"""`visit(node, operands) -> new results, or None to leave them`."""


def observe(
    apply: Function, variables: PyTree, inputs: PyTree, paths: Container[str], look: Look
) -> list[Array]:
    """Run a function in the open, loops unrolled, and call `look` at every use of some kernels.

    Args:
        apply: `(variables, inputs) -> outputs`.
        variables: its variables; may be traced.
        inputs: its inputs; may be traced.
        paths: of the kernels to look at.
        look: called in the order of execution.

    Returns:
        The outputs' leaves.

    Raises:
        ValueError: if a branch, a `while` loop or a reversed scan holds such a kernel.

    Example:
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> seen = []
        >>> def look(path, node, operands, position):
        ...     seen.append(path)
        ...     return jnp.zeros((1, 3))
        >>> observe(apply, {"a": jnp.ones((2, 3))}, jnp.ones((1, 2)), {"a"}, look)[0].tolist()
        [[0.0, 0.0, 0.0]]
        >>> seen
        ['a']
    """
    labelled = label_program(read(apply, variables, (inputs,)), discover=False)

    def look_at(node: Node, arrays: list[Array]) -> Sequence[Array] | None:
        path, position = _kernel(node, paths)
        changed = None if path is None else look(path, node, arrays, position)
        return None if changed is None else [changed]

    def wanted(node: Node) -> bool:
        return _kernel(node, paths)[0] is not None

    return jax.tree.leaves(visit(labelled, variables, inputs, wanted, look_at))


def visit(
    labelled: LabelledProgram,
    variables: PyTree,
    inputs: PyTree,
    wanted: Callable[[Node], bool],
    look: Visit,
) -> PyTree:
    """Run a labelled function in the open, loops unrolled, and call `look` at some equations.

    Args:
        labelled: the reading of `(variables, inputs) -> outputs` with `discover=False`.
        variables: its variables; may be traced.
        inputs: its inputs; may be traced.
        wanted: which equations to look at. One that holds a jaxpr is looked at as a whole.
        look: called in the order of execution.

    Returns:
        The outputs.

    Raises:
        ValueError: if a branch, a `while` loop or a reversed scan holds such an equation.

    Example:
        >>> labelled = label_program(read(lambda v, x: v * x + x, 2.0, (3.0,)), discover=False)
        >>> def doubled(node, arrays):
        ...     return [2 * arrays[0] * arrays[1]]
        >>> float(visit(labelled, 2.0, 3.0, lambda n: n.equation.primitive.name == "mul", doubled))
        15.0
    """

    def substitute(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array] | None:
        if wanted(node):
            return look(node, arrays)
        return _enter(rewriting, node, arrays) if _holds(node, wanted) else None

    none = np.zeros(labelled.labelling.count, bool)
    rewriting = Rewriting(none, rule_of, substitute=substitute)
    leaves = [jnp.asarray(leaf) for leaf in flatten_with_paths(variables)[0].values()]
    return run_rewritten(labelled, rewriting, leaves, (inputs,), {})


def over_uses(graph: Graph, path: str, seen: Sequence[Array]) -> Array:
    """Stack what was seen in the steps of scans, `[uses, scanned..., ...]`.

    Raises:
        ValueError: if a scanned kernel has several uses, whose order in the scans is unknown.
    """
    site = graph.sites[path]
    lengths = site.shape[: sum(name == "slice" for name, _ in site.steps)]
    if lengths and site.uses > 1:
        raise ValueError(
            "what a scanned kernel is given is told by step, but "
            f"{path} is used {site.uses} times; leave it out"
        )
    stacked = jnp.stack(seen)
    return stacked.reshape(-1, *lengths, *stacked.shape[1:])


def _kernel(node: Node, paths: Container[str]) -> tuple[str | None, int]:
    """Return which wanted kernel a contraction uses, and as which operand."""
    if node.equation.primitive.name in ("dot_general", "conv_general_dilated"):
        for position in (1, 0):
            path = node.inputs[position].leaf
            if path is not None and path in paths:
                return path, position
    return None, 0


def _holds(node: Node, wanted: Callable[[Node], bool]) -> bool:
    nodes = [inner for body in node.bodies for inner in body.nodes]
    return any(wanted(inner) or _holds(inner, wanted) for inner in nodes)


def _enter(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array]:
    """Run a nested jaxpr in the open, so that what its sites see can be taken out of it."""
    name = node.equation.primitive.name
    if name == "scan":
        return _unrolled(rewriting, node, arrays)
    if name in ("while", "cond"):
        raise ValueError(
            f"a site is observed where it runs a known number of times, but a {name} holds one; "
            "leave its sites, or groups, out"
        )
    return rewriting(node.bodies[0], arrays)


def _unrolled(rewriting: Rewriting, node: Node, arrays: list[Array]) -> list[Array]:
    params = node.equation.params
    constants, carry = scan_counts(node.equation)
    fixed, state = arrays[:constants], list(arrays[constants : constants + carry])
    steps = range(params["length"])
    if params["reverse"]:
        raise ValueError("a reversed scan cannot be observed; leave its sites, or groups, out")
    stacked: list[list[Any]] = []
    for step in steps:
        slices = [array[step] for array in arrays[constants + carry :]]
        outputs = rewriting(node.bodies[0], [*fixed, *state, *slices])
        state = outputs[:carry]
        stacked.append(outputs[carry:])
    return [*state, *(jnp.stack(column) for column in zip(*stacked, strict=True))]
