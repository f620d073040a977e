"""Find the leaves of an optimizer state that belong to leaves of the variables, and map them.

A state of the shape of its parameter changes as the parameter does; what has only some of its axes
(`factored_state`) follows along these. A history of updates (L-BFGS) is of no use at another size:
the state that holds it starts again from zero, and a `RestartedState` warning names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.annotations import Array, PyTree
from jaxcompress.compression.factored_state import along, follow_factored, is_factored
from jaxcompress.paths import flatten_with_paths, match_paths, path_string

__all__ = [
    "Owned",
    "RestartedState",
    "map_optimizer_state",
    "restart_nodes",
    "restarted",
    "state_owners",
]

Change = Callable[[dict[str, Any]], dict[str, Any]]


class RestartedState(UserWarning):
    """Part of an optimizer state cannot follow its parameters and starts again from zero."""


class Owned(NamedTuple):
    """What a leaf of an optimizer state belongs to.

    Attributes:
        path: of the leaf of the variables.
        copy: the part of the state's path before it: where a copy of the variables begins.
        axis: the one axis that it is a vector of, where the state has one leaf per axis.
    """

    path: str
    copy: str
    axis: int | None = None


def map_optimizer_state(
    tx: optax.GradientTransformation,
    opt_state: PyTree,
    shapes: Mapping[str, tuple[int, ...]],
    change: Change,
) -> PyTree:
    """Change those leaves of an optimizer state that belong to the leaves named in `shapes`.

    A leaf of the state belongs to the variables' leaf whose path its own path ends with, whether
    `tx` was initialised on all variables, on their `params`, or on a flat `{path: leaf}` dict. Of
    the shape of its parameter, it changes alike; Adafactor's rows and columns and SM3's vectors of
    each axis follow along the axes that they have. L-BFGS starts again from zero.

    Args:
        tx: the optax transformation that made the state.
        opt_state: its state; or that of an `nnx.Optimizer`, `nnx.state(optimizer)`.
        shapes: the shape that each leaf to be changed has now, by path.
        change: maps `{path: array}` to the new arrays.

    Raises:
        ValueError: if what belongs to a parameter has neither its shape nor one of these.

    Warns:
        RestartedState: naming the states that start again.

    Example:
        >>> tx = optax.trace(0.9)
        >>> state = tx.init({"a": np.ones(4), "b": np.ones(3)})
        >>> half = lambda leaves: {path: leaf[:2] for path, leaf in leaves.items()}
        >>> map_optimizer_state(tx, state, {"a": (4,)}, half).trace["a"].shape
        (2,)
    """
    leaves, treedef = flatten_with_paths(opt_state)
    owned = state_owners(opt_state, list(shapes))
    resized = _resized(shapes, change)
    restarted: dict[str, str] = {}
    new, wrong = dict(leaves), []
    for path, owner in owned.items():
        leaf, shape = leaves[path], np.shape(leaves[path])
        if shape == () or is_factored(path, owner.copy, leaves):
            continue
        if shape == shapes[owner.path]:
            new[path] = change({owner.path: leaf})[owner.path]
        elif owner.axis is not None and shape == (shapes[owner.path][owner.axis],):
            if owner.path in resized:
                new[path] = along(change, owner.path, shapes[owner.path], leaf, [owner.axis])
        elif shape[1:] == shapes[owner.path]:
            if owner.path in resized:
                restarted[path] = owner.copy
                new[path] = jnp.zeros((shape[0], *resized[owner.path]), leaf.dtype)
        else:
            wrong.append(f"{path} {shape} for {owner.path} {shapes[owner.path]}")
    _refuse(wrong)
    parts = {path: owner for path, owner in owned.items() if owner.path in resized}
    new |= follow_factored(tx, opt_state, parts, shapes, resized, change)
    restart_nodes(new, set(restarted.values()))
    return jax.tree.unflatten(treedef, list(new.values()))


def state_owners(
    opt_state: PyTree, paths: Sequence[str], masked_too: bool = False
) -> dict[str, Owned]:
    """Return what each leaf of a state belongs to, by path; those of no named leaf are out.

    Args:
        opt_state: the state.
        paths: of the leaves of the variables.
        masked_too: whether to name also the places where an optimizer keeps no state.

    Example:
        >>> state = optax.adam(1e-3).init({"a": np.ones(4), "b": np.ones(3)})
        >>> {path: owner.copy for path, owner in state_owners(state, ["a"]).items()}
        {'0/mu/a': '0/mu/', '0/nu/a': '0/nu/'}
    """
    is_masked = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    # Masked places count: they show where a copy of the variables begins.
    pairs = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=is_masked)
    seen = {_seen(keys): path_string(keys) for keys, node in pairs}
    masked = {_seen(keys) for keys, node in pairs if is_masked(node)}
    above = {path.rpartition("/")[0] for path in seen if path.rpartition("/")[2].isdigit()}
    matched = match_paths([*seen, *above], paths)
    owned = {}
    for path, real in seen.items():
        if path in masked and not masked_too:
            continue
        if path in matched:
            owned[real] = Owned(matched[path], _copy(path, matched[path]))
        elif path.rpartition("/")[0] in matched and path.rpartition("/")[0] not in seen:
            param = matched[path.rpartition("/")[0]]
            axis = int(path.rpartition("/")[2])
            owned[real] = Owned(param, _copy(path.rpartition("/")[0], param), axis)
    return owned


def _seen(keys: Sequence[Array]) -> str:
    """Return a path in which a field called params is no collection of that name."""
    field = jax.tree_util.GetAttrKey
    return path_string([field(".params") if key == field("params") else key for key in keys])


def _copy(path: str, param: str) -> str:
    is_whole = path == param or path.endswith("/" + param)
    copy = path[: -len(param if is_whole else param.split("/", 1)[-1])]
    return copy.replace(".params", "params")


def _resized(shapes: Mapping[str, tuple[int, ...]], change: Change) -> dict[str, tuple[int, ...]]:
    """Return the new shapes of the leaves whose shape changes."""
    structs = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    made = jax.eval_shape(change, structs)
    return {path: made[path].shape for path in structs if made[path].shape != structs[path].shape}


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise ValueError(
            "the state of a parameter has the parameter's shape, that of one of its axes, or "
            "factors of it as Adafactor's, but " + "; ".join(wrong) + "; "
            "pass the state of the uncompressed variables"
        )


def restart_nodes(leaves: dict[str, Array], copies: Collection[str]) -> None:
    """Set the states that hold some copies of the variables to zero, and say so."""
    nodes = {copy.rstrip("/").rpartition("/")[0] for copy in copies}
    for node in nodes:
        for path, leaf in leaves.items():
            if not node or path.startswith(node + "/"):
                leaves[path] = jax.tree.map(jnp.zeros_like, leaf)
    if nodes:
        names = ", ".join(repr(node) for node in sorted(nodes))
        warnings.warn(
            f"a history of updates cannot follow its parameters to another size: the optimizer "
            f"states at {names} start again from zero",
            RestartedState,
            stacklevel=4,
        )


def restarted(flat: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Return zeros, of the shapes that they have now, for what belongs to leaves that changed."""
    made: dict[str, Array] = {}
    for path, leaf in flat.items():
        is_abstract = isinstance(leaf, jax.ShapeDtypeStruct)
        zeros = jax.ShapeDtypeStruct if is_abstract else jnp.zeros
        made[path] = zeros(shapes[path], leaf.dtype)
    return made
