"""`fold`: store the kernels that a function computes from its variables alone.

A kernel that is scaled (equalised learning rates), standardised, dequantised or updated by a
product of two small matrices (LoRA) is no leaf: nothing of it can be factorized or masked. Folding
computes it once and puts it in the place of a leaf of its size; after that it is a kernel as any.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.checks import check_shapes
from jaxcompress.compression.folded import FoldedKernel, SpareLeaf, run_folded
from jaxcompress.compression.optimizer_state import map_optimizer_state, restarted
from jaxcompress.compression.record import Compression
from jaxcompress.graph import default_trainable
from jaxcompress.graph.derived import Derived, find_derived
from jaxcompress.graph.internals import abstract
from jaxcompress.graph.origins import evaluate
from jaxcompress.graph.program import label_program, read
from jaxcompress.paths import flatten_with_paths

__all__ = ["fold", "from_spec"]

CHANGE = "the folding"


def fold(apply: Function, variables: PyTree, *inputs: PyTree) -> Compression:
    """Store every kernel that `apply` computes from its variables alone.

    A kernel `k(variables)` takes the place of the leaf of its size that nothing else reads, and the
    other leaves that it alone is computed from become empty, of shape (0,): the tree stays. The
    function no longer computes it. Training goes on with the kernel itself, not with what it was
    computed from.

    Args:
        apply: a pure function of (variables, *inputs).
        variables: pytree of arrays or `jax.ShapeDtypeStruct`; nothing is computed yet.
        *inputs: example inputs, as in `trace`.

    Returns:
        The compression, to be chained in front of all others: `trace` its function and variables.
        It rewrites every function that computes the same kernels in the same way. Made again from
        its `spec` it rewrites functions too, but stores no kernels: that takes `apply`. Optimizer
        state of what changed starts again from zero.

    Warns:
        UserWarning: of kernels that have to be computed still: none of their leaves has their
            size, or something else reads it.

    Example:
        >>> from jaxcompress.graph import trace
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ (variables["a"] * variables["gain"])) @ variables["b"]
        >>> shapes = {"a": (3, 8), "gain": (8,), "b": (8, 2)}
        >>> variables = {name: 2 * jnp.ones(shape) for name, shape in shapes.items()}
        >>> x = jnp.ones((4, 3))
        >>> list(trace(apply, variables, x).sites)
        ['b']
        >>> folding = fold(apply, variables, x)
        >>> folded = folding.variables(variables)
        >>> jax.tree.map(jnp.shape, folded)
        {'a': (3, 8), 'b': (8, 2), 'gain': (0,)}
        >>> list(trace(folding.function(apply), folded, x).sites)
        ['a', 'b']
    """
    derived = _derived(apply, variables, inputs)
    if derived.refused:
        listed = "; ".join(f"{line}: {reason}" for line, reason in derived.refused.items())
        warnings.warn(
            f"a kernel takes the place of a leaf of its size that only it reads, but {listed}; "
            "these kernels are computed still",
            stacklevel=2,
        )
    leaves = {path: abstract(leaf) for path, leaf in flatten_with_paths(variables)[0].items()}
    made = jax.eval_shape(lambda tree: _kernels(derived, tree), leaves)
    described = {path: _described(leaves[path]) for path in (*derived.places, *derived.spare)}
    for path, origin in derived.places.items():
        described[path] |= {"kernel": _described(made[path]), "digest": origin.digest}
    return _compression({"kind": "fold", "leaves": described}, derived)


def from_spec(spec: Mapping[str, Json]) -> Compression:
    """Make a folding compression from its `spec`; it rewrites functions, but computes no kernels.

    Example:
        >>> from_spec({"kind": "fold", "leaves": {}}).variables({"a": 1.0})
        {'a': 1.0}
    """
    return _compression(spec, None)


def _derived(apply: Function, variables: PyTree, inputs: tuple[PyTree, ...]) -> Derived:
    program = read(apply, variables, inputs)
    trainable = default_trainable(variables)
    return find_derived(label_program(program, discover=False), trainable)


def _kernels(derived: Derived, leaves: Mapping[str, Array]) -> dict[str, Array]:
    made: dict[Any, Array] = {}
    return {p: jnp.asarray(evaluate(origin, leaves, made)) for p, origin in derived.places.items()}


def _described(leaf: Array) -> dict[str, Json]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _compression(spec: Mapping[str, Json], derived: Derived | None) -> Compression:
    described = spec["leaves"]
    kernels = {path: leaf for path, leaf in described.items() if "kernel" in leaf}
    spare = {path: leaf for path, leaf in described.items() if path not in kernels}
    before = {path: tuple(leaf["shape"]) for path, leaf in described.items()}
    after = {path: tuple(leaf["kernel"]["shape"]) for path, leaf in kernels.items()}
    after |= dict.fromkeys(spare, (0,))
    empty = {path: jnp.zeros(0, leaf["dtype"]) for path, leaf in spare.items()}

    def variables(tree: PyTree) -> PyTree:
        leaves, treedef = flatten_with_paths(tree)
        made: dict[str, Array]
        check_shapes(leaves, before, "the variables to fold", CHANGE, "pass original variables")
        is_abstract = any(isinstance(leaves[path], jax.ShapeDtypeStruct) for path in before)
        if is_abstract:
            made = {p: _struct(leaf["kernel"]) for p, leaf in kernels.items()}
            made |= {path: jax.ShapeDtypeStruct((0,), a.dtype) for path, a in empty.items()}
        else:
            made = _stored(derived, kernels, leaves) | empty
        return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))

    def function(f: Function) -> Function:
        if not kernels:
            return f

        @functools.wraps(f)
        def folded(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
            leaves, treedef = flatten_with_paths(tree)
            what = "the folded function's variables"
            check_shapes(leaves, after, what, CHANGE, "pass folded variables")
            original = [
                _struct(described[path]) if path in described else abstract(leaf)
                for path, leaf in leaves.items()
            ]
            program = read(f, jax.tree.unflatten(treedef, original), inputs, keywords)
            labelled = label_program(program, discover=False)
            values = [_marked(path, leaf, kernels, spare) for path, leaf in leaves.items()]
            digests = {path: leaf["digest"] for path, leaf in kernels.items()}
            return run_folded(labelled, digests, values, inputs, keywords)

        return folded

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        return map_optimizer_state(tx, opt_state, before, lambda flat: restarted(flat, after))

    return Compression(dict(spec), variables, function, optimizer_state)


def _stored(
    derived: Derived | None, kernels: Mapping[str, Json], leaves: Mapping[str, Array]
) -> dict[str, Array]:
    if derived is None and kernels:
        raise ValueError(
            "a folding made from its spec rewrites functions, but how its kernels are computed is "
            f"said by the function alone: {sorted(kernels)}; make it by fold(apply, variables, ...)"
        )
    return {} if derived is None else _kernels(derived, leaves)


def _marked(
    path: str, leaf: Array, kernels: Mapping[str, Json], spare: Mapping[str, Json]
) -> Array:
    if path in kernels:
        return FoldedKernel(jnp.asarray(leaf), path)
    return SpareLeaf(path) if path in spare else leaf


def _struct(described: Mapping[str, Json]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(described["shape"]), jnp.dtype(described["dtype"]))
