"""Kernels that are computed from the variables: which ones, and what else reads their leaves.

A contraction whose kernel is a function of the variables alone has no leaf to factorize or to mask.
Where one leaf of the kernel's size is read by nothing else, the kernel can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value
from jaxcompress.graph.internals import is_key, source_line
from jaxcompress.graph.interpret import Body, Node
from jaxcompress.graph.labelling import Contraction
from jaxcompress.graph.origins import Origin
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules.control import MAPS
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["Derived", "find_derived", "has_derived_kernel"]


class Derived(NamedTuple):
    """What may be stored instead of computed.

    Attributes:
        places: the kernel that takes the place of a leaf, by the leaf's path.
        spare: the leaves that nothing else reads, so that they are of no use any more.
        refused: why a kernel has to be computed still, by the line of code that contracts it.
    """

    places: dict[str, Origin]
    spare: tuple[str, ...]
    refused: dict[str, str]


def has_derived_kernel(contraction: Contraction) -> bool:
    """Tell whether a contraction's kernel is computed from leaves, and from nothing else."""
    return _kernel(contraction) is not None


def find_derived(labelled: LabelledProgram, is_preferred: Callable[[str, Array], bool]) -> Derived:
    """Find the kernels of a program that may be stored in the place of a leaf.

    Args:
        labelled: the program.
        is_preferred: `(path, leaf)`, which leaves are replaced rather than others of the same size.
    """
    kernels: dict[str, tuple[Origin, str]] = {}
    for contraction in labelled.labelling.contractions:
        kernel = _kernel(contraction)
        if kernel is not None:
            kernels.setdefault(kernel.digest, (kernel, source_line(contraction.equation)))
    wanted = frozenset().union(*(kernel.leaves for kernel, _ in kernels.values()))
    readers = _readers(_reads(labelled), wanted)
    leaves = labelled.program.leaves
    order = sorted(leaves, key=lambda path: not is_preferred(path, leaves[path]))
    places: dict[str, Origin] = {}
    refused: dict[str, str] = {}
    for digest, (kernel, line) in kernels.items():
        free = [path for path in order if readers.get(path) == {digest} and path not in places]
        path = _place(kernel, free, leaves)
        if path is None:
            refused[line] = _why(kernel, readers, digest)
        else:
            places[path] = kernel
    stored = {kernel.digest for kernel in places.values()}
    spare = tuple(p for p in leaves if p not in places and readers.get(p, {""}) <= stored)
    return Derived(places, spare, refused)


def _kernel(contraction: Contraction) -> Origin | None:
    """Return what a kernel is computed from; None where it is a leaf, or there is none."""
    left, right = contraction.operands
    for operand, other in ((right, left), (left, right)):
        origin = operand.origin
        if origin is None or other.origin is not None or contraction.inside_rule:
            continue
        is_computed = origin.computed.equation is not None
        if is_computed and origin.leaves and not is_symbolic(*origin.computed.stacked_shape):
            return origin.computed
    return None


def _reads(labelled: LabelledProgram) -> Iterator[Origin]:
    """Yield the values of the variables alone that something else of the program reads."""
    yield from _reads_inside(labelled.body)
    yield from _origins(labelled.body.outputs)


def _reads_inside(body: Body) -> Iterator[Origin]:
    for node in body.nodes:
        if all(value.origin is not None for value in (*node.inputs, *node.outputs)):
            continue
        if not _is_entered(node):
            yield from _origins(node.inputs)
            continue
        inside = [value.origin for inner in node.bodies for value in inner.inputs]
        stacks = [o.inputs[0] for o in inside if o is not None and o.is_slice]
        handed_in = {id(origin) for origin in (*inside, *stacks)}
        handed_out = {id(value.origin) for value in node.outputs}
        yield from _origins(v for v in node.inputs if id(v.origin) not in handed_in)
        for inner in node.bodies:
            yield from _reads_inside(inner)
            yield from _origins(v for v in inner.outputs if id(v.origin) not in handed_out)


def _is_entered(node: Node) -> bool:
    """Tell whether the jaxprs of an equation are walked: not those with a rule of their own."""
    name = node.equation.primitive.name
    return bool(node.bodies) and not name.startswith("custom_") and name not in MAPS


def _origins(values: Iterable[Value]) -> Iterator[Origin]:
    return (value.origin for value in values if value.origin is not None)


def _readers(reads: Iterable[Origin], wanted: frozenset[str]) -> dict[str, set[str]]:
    """Return the digests of what is read of each wanted leaf."""
    readers: dict[str, set[str]] = {path: set() for path in wanted}
    for origin in {id(read): read for read in reads}.values():
        for path in origin.leaves & wanted:
            readers[path].add(origin.computed.digest)
    return readers


def _place(kernel: Origin, free: Iterable[str], leaves: Mapping[str, Array]) -> str | None:
    """Return the leaf whose place a kernel takes: of its shape, or at least of its size."""
    shape = kernel.stacked_shape
    fitting = [
        path
        for path in free
        if path in kernel.leaves
        and not is_key(leaves[path].dtype)
        and prod(leaves[path].shape) == prod(shape)
        and (
            not kernel.scans
            or leaves[path].shape[: len(kernel.scans)] == shape[: len(kernel.scans)]
        )
    ]
    alike = [path for path in fitting if tuple(leaves[path].shape) == tuple(shape)]
    floats = [path for path in alike if jnp.issubdtype(leaves[path].dtype, jnp.inexact)]
    return next(iter([*floats, *alike, *fitting]), None)


def _why(kernel: Origin, readers: Mapping[str, set[str]], digest: str) -> str:
    others = sorted(path for path in kernel.leaves if readers[path] - {digest})
    shape = kernel.stacked_shape
    also = f"; something else reads {others}" if others else ""
    return f"none of {sorted(kernel.leaves)} has its shape {shape} and no other reader{also}"
