"""Which leaves are optimized: the variables as two flat dicts, and back.

What is optimized is decided per leaf by a predicate (`Trainable`). Optimizers see those leaves as
one flat dict ``{path: leaf}``, so that their state does not depend on the framework of the network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "Leaves",
    "Trainable",
    "combine",
    "default_trainable",
    "in_params",
    "inexact",
    "partition",
    "replace_leaves",
]

Leaves: TypeAlias = dict[str, Any]
"""Arrays by leaf path."""

Trainable: TypeAlias = Callable[[str, Any], bool]
"""`trainable(path, leaf)`: whether the optimizer changes this leaf."""


def inexact(path: str, leaf: Array) -> bool:
    """Accept every floating-point or complex leaf.

    Example:
        >>> inexact("weight", jnp.ones(2)), inexact("count", jnp.int32(0))
        (True, False)
    """
    del path
    return jnp.issubdtype(getattr(leaf, "dtype", None) or jnp.result_type(leaf), jnp.inexact)


def in_params(path: str, leaf: Array) -> bool:
    """Accept the inexact leaves of Linen's ``params`` collection.

    Example:
        >>> in_params("params/Dense_0/bias", 0.0), in_params("batch_stats/BatchNorm_0/mean", 0.0)
        (True, False)
    """
    return path.startswith("params/") and inexact(path, leaf)


def default_trainable(variables: PyTree) -> Trainable:
    """Choose the predicate, by what the variables are made of.

    Linen: `in_params`, where there is such a collection. An `nnx.State`: those that are
    `nnx.Param`. With an `eqx.nn.State` in it: inexact leaves outside of that. Else `inexact`.
    Pass a predicate of your own where other inexact leaves are state, not parameters.

    Example:
        >>> default_trainable({"params": {"scale": 1.0}}) is in_params
        True
    """
    leaves, _ = flatten_with_paths(variables)
    if any(path.startswith("params/") for path in leaves):
        return in_params
    states = _states(variables)
    return (lambda path, leaf: path not in states and inexact(path, leaf)) if states else inexact


def _states(variables: PyTree) -> frozenset[str]:
    """Return the paths of what NNX and Equinox mark as state; neither is imported for that."""
    nnx, equinox = sys.modules.get("flax.nnx"), sys.modules.get("equinox")
    paths, _ = flatten_with_paths(variables)
    if nnx is not None and isinstance(variables, nnx.State):
        params, _ = flatten_with_paths(nnx.filter_state(variables, nnx.Param))
        return frozenset(paths.keys() - params.keys())
    if equinox is None:
        return frozenset()
    state = equinox.nn.State
    marks = jax.tree.map(
        lambda node: jax.tree.map(lambda _: isinstance(node, state), node),
        variables,
        is_leaf=lambda node: isinstance(node, state),
    )
    return frozenset(path for path, is_state in flatten_with_paths(marks)[0].items() if is_state)


def partition(variables: PyTree, trainable: Trainable | None = None) -> tuple[Leaves, Leaves]:
    """Split the leaves into those the optimizer changes and the rest.

    Raises:
        ValueError: if no leaf is trainable.

    Example:
        >>> partition({"params": {"scale": 1.0}, "batch_stats": {"mean": 0.0}})
        ({'params/scale': 1.0}, {'batch_stats/mean': 0.0})
    """
    trainable = trainable or default_trainable(variables)
    leaves, _ = flatten_with_paths(variables)
    params = {path: leaf for path, leaf in leaves.items() if trainable(path, leaf)}
    if not params:
        raise ValueError(
            f"at least one leaf must be trainable, but none of {sorted(leaves)} is; "
            "pass trainable=, a predicate of (path, leaf)"
        )
    return params, {path: leaf for path, leaf in leaves.items() if path not in params}


def combine(params: Leaves, rest: Leaves, like: PyTree) -> PyTree:
    """Put the two halves of `partition` back into a tree of the structure of `like`.

    Raises:
        ValueError: if the two together do not name exactly the leaves of `like`.

    Example:
        >>> like = {"params": {"scale": 1.0}, "batch_stats": {"mean": 0.0}}
        >>> combine({"params/scale": 2.0}, {"batch_stats/mean": 3.0}, like)
        {'batch_stats': {'mean': 3.0}, 'params': {'scale': 2.0}}
    """
    paths, treedef = flatten_with_paths(like)
    given = {**rest, **params}
    if given.keys() != paths.keys():
        raise ValueError(
            "params and rest together name every leaf of `like` once, but missing are "
            f"{sorted(paths.keys() - given.keys())} and unknown are "
            f"{sorted(given.keys() - paths.keys())}; pass what partition(like) returned"
        )
    return jax.tree.unflatten(treedef, [given[path] for path in paths])


def replace_leaves(variables: PyTree, new_state: PyTree) -> PyTree:
    """Replace the leaves of `variables` that `new_state` names by path.

    Raises:
        ValueError: if `new_state` names leaves that `variables` does not have.

    Example:
        >>> replace_leaves({"a": 1.0, "b": {"c": 2.0}}, {"b": {"c": 3.0}})
        {'a': 1.0, 'b': {'c': 3.0}}
    """
    new, _ = flatten_with_paths(new_state)
    leaves, treedef = flatten_with_paths(variables)
    unknown = sorted(new.keys() - leaves.keys())
    if unknown:
        raise ValueError(
            f"new state replaces leaves that the variables have, but they lack {unknown}; "
            f"return it under the keys of the variables, e.g. {sorted(leaves)[0]}"
        )
    return jax.tree.unflatten(treedef, [new.get(path, leaf) for path, leaf in leaves.items()])
