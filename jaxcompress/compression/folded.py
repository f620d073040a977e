"""Running a function whose derived kernels are stored: what computed them is passed over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.internals import source_line
from jaxcompress.graph.interpret import Node, Rewriting
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten

__all__ = ["FoldedKernel", "SpareLeaf", "run_folded"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FoldedKernel:
    """A stored kernel in the place of a leaf, on its way to where the kernel was computed.

    Attributes:
        array: the kernel; inside a scan, of one step.
        path: the leaf whose place it takes.
    """

    array: Array
    path: str = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpareLeaf:
    """A leaf that was only read to compute stored kernels.

    Attributes:
        path: of the leaf.
    """

    path: str = dataclasses.field(metadata={"static": True})


def run_folded(
    labelled: LabelledProgram,
    digests: Mapping[str, str],
    leaves: Iterable[Array],
    inputs: Sequence[PyTree],
    keywords: Mapping[str, PyTree],
) -> PyTree:
    """Run a function with stored kernels.

    Args:
        labelled: the function's program, of the leaves before folding.
        digests: what each folded leaf's kernel was computed by, by path.
        leaves: of the variables, in order, folded and spare ones marked.
        inputs: the arguments after the variables.
        keywords: the function's keyword arguments.

    Raises:
        ValueError: if the function uses such a leaf in another way.
    """
    paths = {digest: path for path, digest in digests.items()}

    def substitute(rewriting: Rewriting, node: Node, arrays: list[Array]) -> Sequence[Array] | None:
        marked = [array for array in arrays if _is_marked(array)]
        if not marked:
            return None
        origins = [value.origin for value in node.outputs if value.origin is not None]
        is_known = all(value.origin is not None for value in node.inputs)
        if is_known and len(origins) == len(node.outputs):
            return [_result(paths, marked, origin.digest) for origin in origins]
        if not node.bodies or node.equation.primitive.name.startswith("custom_"):
            raise _refusal(marked, f"at {source_line(node.equation)}")
        rule = rewriting.rules(node.equation)
        assert rule is not None and rule.rebind is not None
        return rule.rebind(rewriting, node, arrays)

    none = np.zeros(labelled.labelling.count, bool)
    rewriting = Rewriting(none, rule_of, substitute=substitute)
    outputs = run_rewritten(labelled, rewriting, leaves, inputs, keywords)
    left = [leaf for leaf in jax.tree.leaves(outputs, is_leaf=_is_marked) if _is_marked(leaf)]
    if left:
        raise _refusal(left, "in its outputs")
    return outputs


def _is_marked(array: Array) -> bool:
    return isinstance(array, FoldedKernel | SpareLeaf)


def _result(paths: Mapping[str, str], marked: Sequence[Array], digest: str) -> Array:
    """Return the kernel where it was computed, and before that what stands for it."""
    kernels = [array for array in marked if isinstance(array, FoldedKernel)]
    path = paths.get(digest)
    for kernel in kernels:
        if kernel.path == path:
            return kernel.array
    return kernels[0] if kernels else marked[0]


def _refusal(marked: Sequence[Array], where: str) -> ValueError:
    names = sorted({array.path for array in marked})
    return ValueError(
        "a folded kernel stands for what its leaves were computed to, but this function computes "
        f"another value from {names} {where}; fold before training goes on, and rewrite functions "
        "that compute the same kernels with the version of JAX that folded them"
    )
