"""`shrink`: remove channels for good, from the variables and from any function of them.

The function is read again at its original shapes, abstractly, and its jaxpr is run on the smaller
arrays; under `jax.jit` that costs nothing at run time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.checks import check_keep
from jaxcompress.compression.optimizer_state import map_optimizer_state
from jaxcompress.compression.record import Compression
from jaxcompress.compression.take import take_leaves
from jaxcompress.graph import Graph
from jaxcompress.graph.apply import KEPT, REMOVED, Known, removals
from jaxcompress.graph.internals import abstract
from jaxcompress.graph.interpret import Rewriting
from jaxcompress.graph.outputs import tie_plain_state
from jaxcompress.graph.program import label_program, read
from jaxcompress.graph.rules import rule_of
from jaxcompress.graph.running import run_rewritten
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.carried import carried_keep, known_inputs, original_inputs

__all__ = ["from_spec", "shrink"]


def shrink(graph: Graph, keep: Mapping[str, Array]) -> Compression:
    """Remove the channels that `keep` does not keep.

    Args:
        graph: of a function of the variables to be shrunk.
        keep: `{group: bool[width]}` on the host; groups that it does not name stay whole.

    Returns:
        The compression. Its outputs equal those of the masked network; an output that carries
        removed channels (new BatchNorm statistics) comes out smaller. An input that an output
        replaces (a carry: `state=` of `trace`) must come in as small as it comes out, at the
        place where it was traced; `shrink_inputs` makes the first one.

    Raises:
        ValueError: if a group is unknown, a width wrong or a group would lose every channel.
        TypeError: if a keep is traced or not boolean: use gates inside jit.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> prune = shrink(graph, {"a[1]": np.array([True, False, True, False])})
        >>> prune.variables(variables)["b"].shape
        (2, 2)
        >>> prune.function(apply)(prune.variables(variables), jnp.ones((5, 3))).shape
        (5, 2)
    """
    keep = check_keep(graph, keep)
    kept = {
        (path, axis): np.ones(size, bool)
        for path, aval in graph.leaves.items()
        for axis, size in enumerate(aval.shape)
    }
    for name, mask in keep.items():
        for member in graph.groups[name].members:
            kept[member.path, member.axis][member.indices[~mask].ravel()] = False
    leaves: dict[str, Array] = {}
    for (path, axis), mask in kept.items():
        if not mask.all():
            aval = graph.leaves[path]
            entry = {"shape": list(aval.shape), "dtype": str(aval.dtype), "keep": {}}
            leaf = leaves.setdefault(path, entry)
            leaf["keep"][str(axis)] = np.flatnonzero(mask).tolist()
    spec: dict[str, Json] = {"kind": "shrink", "leaves": leaves}
    if leaves:
        spec["means"] = graph.means
    carried = carried_keep(graph, keep)
    return from_spec(spec | ({"inputs": carried} if carried else {}))


def from_spec(spec: Mapping[str, Json]) -> Compression:
    """Make a shrinking compression from what `Compression.spec` said of it.

    Example:
        >>> from_spec({"kind": "shrink", "leaves": {}}).variables({"a": 1.0})
        {'a': 1.0}
    """
    leaves, carried = spec["leaves"], spec.get("inputs", {})
    means = spec.get("means", "all")
    indices = {
        path: {int(axis): np.asarray(kept) for axis, kept in leaf["keep"].items()}
        for path, leaf in leaves.items()
    }
    shapes = {path: tuple(leaf["shape"]) for path, leaf in leaves.items()}
    smaller = {
        path: tuple(len(indices[path].get(a, range(n))) for a, n in enumerate(shape))
        for path, shape in shapes.items()
    }
    known = _known(shapes, indices)

    def variables(tree: PyTree) -> PyTree:
        arrays, treedef = flatten_with_paths(tree)
        _check_shapes(arrays, shapes, "the variables to shrink")
        taken = take_leaves({path: arrays[path] for path in indices}, indices)
        return jax.tree.unflatten(treedef, list({**arrays, **taken}.values()))

    def function(f: Function) -> Function:
        if not indices:
            return f

        @functools.wraps(f)
        def shrunk(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
            arrays, treedef = flatten_with_paths(tree)
            _check_shapes(arrays, smaller, "the shrunk function's variables")
            original = [abstract(leaf, shapes.get(path)) for path, leaf in arrays.items()]
            whole, names, small = original_inputs(carried, inputs, keywords)
            program = read(f, jax.tree.unflatten(treedef, original), whole, names)
            labelled = label_program(program, False, None if small else 0, small)
            tie_plain_state(labelled)
            removed = removals(labelled, {**known, **known_inputs(carried, small)})
            rewriting = Rewriting(removed, rule_of, means=means)
            return run_rewritten(labelled, rewriting, arrays.values(), inputs, keywords)

        return shrunk

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        return map_optimizer_state(tx, opt_state, shapes, lambda flat: take_leaves(flat, indices))

    return Compression(dict(spec), variables, function, optimizer_state)


def _known(
    shapes: Mapping[str, tuple[int, ...]], indices: Mapping[str, Mapping[int, np.ndarray]]
) -> Known:
    known = {}
    for path, axes in indices.items():
        for axis, kept in axes.items():
            values = np.full(shapes[path][axis], REMOVED, np.int32)
            values[np.asarray(kept, np.int64)] = KEPT
            known[path, axis] = values
    return known


def _check_shapes(
    leaves: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    wrong = [
        f"{path}: {'missing' if path not in leaves else tuple(np.shape(leaves[path]))}, "
        f"expected {shape}"
        for path, shape in expected.items()
        if path not in leaves or tuple(np.shape(leaves[path])) != shape
    ]
    if wrong:
        raise ValueError(
            f"{what} must have the leaves and shapes that the compression was made for, but "
            f"{'; '.join(wrong)}; pass original variables to `variables` and their result to "
            "the function"
        )
