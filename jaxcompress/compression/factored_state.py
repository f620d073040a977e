"""Optimizer states with some axes of their parameter: Adafactor's rows and columns.

Of a leaf whose largest axes are d1 and d0 (the larger), `v_row` is a mean over d0 and `v_col` one
over d1; v = v_row v_col / mean(v_row) stands for the second moment. They follow along the axes that
they have. Where the smaller leaf is factored along other axes, or no more, its statistics are those
of that v.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths, path_string

__all__ = ["along", "follow_factored", "is_factored"]

Change = Callable[[dict[str, Any]], dict[str, Any]]
Shape = tuple[int, ...]
FIELDS = ("v_row", "v_col", "v")


def is_factored(path: str, copy: str, leaves: Mapping[str, Array]) -> bool:
    """Tell whether a leaf of a state, in a copy of the variables, is part of a factored moment."""
    node, _, field = copy.rstrip("/").rpartition("/")
    front = f"{node}/" if node else ""
    return field in FIELDS and all(f"{front}{f}/{path[len(copy) :]}" in leaves for f in FIELDS)


def along(change: Change, path: str, shape: Shape, array: Array, axes: Sequence[int]) -> Array:
    """Change an array that has only some axes of a leaf of a shape, as the leaf changes on them."""
    sizes = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
    wide = jnp.broadcast_to(jnp.asarray(array).reshape(sizes), shape)
    index = tuple(slice(None) if axis in axes else 0 for axis in range(len(shape)))
    return change({path: wide})[path][index]


def follow_factored(
    tx: optax.GradientTransformation,
    opt_state: PyTree,
    owned: Mapping[str, Array],
    shapes: Mapping[str, Shape],
    resized: Mapping[str, Shape],
    change: Change,
) -> dict[str, Array]:
    """Return the new leaves of the factored moments of resized leaves, by path of the state.

    Args:
        tx: that made the state; it says whether a smaller leaf is still factored.
        opt_state: its state.
        owned: what leaves of the state belong to.
        shapes: of the leaves of the variables.
        resized: their new shapes.
        change: maps `{path: array}` to the new arrays.

    Raises:
        ValueError: if `tx` cannot be initialised on the smaller leaves.
    """
    leaves, _ = flatten_with_paths(opt_state)
    rows = {
        path: owner
        for path, owner in owned.items()
        if owner.copy.endswith("v_row/") and is_factored(path, owner.copy, leaves)
    }
    made: dict[str, Array] = {}
    for copy in {owner.copy for owner in rows.values()}:
        inside = {path: owner.path for path, owner in rows.items() if owner.copy == copy}
        expected = _expected(
            tx, opt_state, copy, {p: resized[param] for p, param in inside.items()}
        )
        for path, param in inside.items():
            front, tail = copy[: -len("v_row/")], path[len(copy) :]
            names = [f"{front}{field}/{tail}" for field in FIELDS]
            state = [leaves[name] for name in names]
            is_left = expected[path] != (1,)
            new = _followed(state, param, shapes[param], resized[param], is_left, change)
            made |= dict(zip(names, new, strict=True))
    return made


def _followed(
    state: Sequence[Array], path: str, before: Shape, after: Shape, is_left: bool, change: Change
) -> list[Array]:
    row, column, whole = state
    if np.shape(whole) == before:
        return [row, column, change({path: whole})[path]]
    (d1, d0), (e1, e0) = _dimensions(before), _dimensions(after)
    every = range(len(before))
    if is_left and {d1, d0} == {e1, e0}:
        parts = {d0: row, d1: column}
        kept = {
            d: along(change, path, before, part, [axis for axis in every if axis != d])
            for d, part in parts.items()
        }
        return [kept[e0], kept[e1], whole]
    mean = jnp.mean(row, axis=d1 - (d1 > d0), keepdims=True)
    moment = jnp.expand_dims(row / mean, d0) * jnp.expand_dims(column, d1)
    moment = change({path: moment})[path]
    if is_left:
        return [jnp.mean(moment, axis=e0), jnp.mean(moment, axis=e1), whole]
    return [jnp.zeros_like(whole), jnp.zeros_like(whole), moment]


def _dimensions(shape: Shape) -> tuple[int, int]:
    """Return the two largest axes, the larger last, as optax chooses them."""
    order = np.argsort(shape)
    return int(order[-2]), int(order[-1])


def _expected(
    tx: optax.GradientTransformation, opt_state: PyTree, copy: str, small: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Return the shapes of `v_row` that `tx` makes of smaller leaves, by path of the state."""
    name = copy.rstrip("/")
    copied = flatten_with_paths(opt_state, whole={name})[0][name]
    is_masked = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    pairs, treedef = jax.tree_util.tree_flatten_with_path(copied, is_leaf=is_masked)
    sizes = [small.get(copy + path_string(keys), (1,)) for keys, _ in pairs]
    params = [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]
    try:
        state = jax.eval_shape(tx.init, jax.tree.unflatten(treedef, params))
    except Exception as error:
        raise ValueError(
            f"whether smaller leaves are still factored is what tx.init makes of them, but on the "
            f"tree of {name} it raises {type(error).__name__}: {error}; pass the `tx` that made "
            "the state"
        ) from error
    leaves = flatten_with_paths(state)[0]
    ends = {path: [p for p in leaves if path == p or path.endswith("/" + p)] for path in small}
    missing = [path for path, matches in ends.items() if not matches]
    if missing:
        raise ValueError(
            f"a state is mapped with the `tx` that made it, but this one has none at {missing}"
        )
    return {path: tuple(leaves[matches[0]].shape) for path, matches in ends.items()}
