"""The compression that a rotation is: turned variables, functions of them, its description."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.checks import check_shapes
from jaxcompress.compression.optimizer_state import map_optimizer_state, restarted
from jaxcompress.compression.record import Compression
from jaxcompress.graph.internals import abstract
from jaxcompress.graph.program import label_program, read
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.rotation.following import follow
from jaxcompress.prune.rotation.rewriting import ScaleMatrix, run_turned

__all__ = ["compression_of", "from_spec"]

CHANGE = "the rotation"

Turn = Callable[[Mapping[str, Array]], dict[str, Array]]


def from_spec(spec: Mapping[str, Json]) -> Compression:
    """Make a rotation from its `spec`; it rewrites functions, but turns no variables.

    Example:
        >>> spec = {"kind": "rotate", "group": "a[1]", "width": 4, "ones": False, "leaves": {}}
        >>> from_spec(spec).variables({"b": 1.0})
        {'b': 1.0}
    """
    return compression_of(spec, None)


def compression_of(spec: Mapping[str, Json], turn: Turn | None) -> Compression:
    """Make a rotation from its `spec`, and from what turns leaves."""
    described = spec["leaves"]
    before = {path: tuple(leaf["shape"]) for path, leaf in described.items()}
    after = {path: _after(leaf) for path, leaf in described.items()}
    matrices = [path for path, leaf in described.items() if leaf["role"] == "matrix"]

    def variables(tree: PyTree) -> PyTree:
        leaves, treedef = flatten_with_paths(tree)
        check_shapes(leaves, before, "the variables to rotate", CHANGE, "pass original variables")
        if any(isinstance(leaves[path], jax.ShapeDtypeStruct) for path in described):
            made = {p: jax.ShapeDtypeStruct(after[p], leaves[p].dtype) for p in described}
            return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))
        if turn is None and described:
            raise ValueError(
                "a rotation made from its spec rewrites functions, but holds no rotation: that is "
                f"in the variables of {spec['group']}, which were saved with it; make another by "
                "rotate(graph, apply, variables, batches)"
            )
        turned = {} if turn is None else turn(leaves)
        return jax.tree.unflatten(treedef, list({**leaves, **turned}.values()))

    def function(f: Function) -> Function:
        if not matrices and not spec["ones"]:
            return f

        @functools.wraps(f)
        def rotated(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
            leaves, treedef = flatten_with_paths(tree)
            what = "the rotated function's variables"
            check_shapes(leaves, after, what, CHANGE, "pass rotated variables")
            original = [abstract(leaf, before.get(path)) for path, leaf in leaves.items()]
            program = read(f, jax.tree.unflatten(treedef, original), inputs, keywords)
            labelled = label_program(program, discover=False)
            axes = {path: leaf["axes"] for path, leaf in described.items()}
            ones = [path for path, leaf in described.items() if leaf["role"] == "ones"]
            record = follow(labelled, axes, matrices, ones, is_training=True)
            _refuse({**record.problems, **record.failed}, spec["group"])
            values = [_marked(leaf, path in matrices) for path, leaf in leaves.items()]
            actions = record.actions
            return run_turned(labelled, actions, spec["width"], values, inputs, keywords)

        return rotated

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        return map_optimizer_state(tx, opt_state, before, lambda flat: restarted(flat, after))

    return Compression(dict(spec), variables, function, optimizer_state)


def _after(leaf: Mapping[str, Json]) -> tuple[int, ...]:
    shape = tuple(leaf["shape"])
    return (*shape, shape[-1]) if leaf["role"] == "matrix" else shape


def _marked(leaf: Array, is_matrix: bool) -> Array:
    if not is_matrix:
        return leaf
    matrix = jnp.asarray(leaf)
    return ScaleMatrix(jnp.ones(matrix.shape[:-1], matrix.dtype), matrix)


def _refuse(problems: Mapping[str, str], group: str) -> None:
    if problems:
        listed = "; ".join(f"{line}: {reason}" for line, reason in problems.items())
        raise ValueError(
            f"a function of rotated variables does with {group} what the rotated one did, but this "
            f"one does not: {listed}; leave that out, or compute it before the rotation"
        )
