"""Find the leaves of an optimizer state that belong to leaves of the variables, and map them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxcompress.paths import flatten_with_paths, match_paths, path_string

__all__ = ["map_optimizer_state"]


def map_optimizer_state(
    tx: Any,
    opt_state: Any,
    shapes: Mapping[str, tuple[int, ...]],
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> Any:
    """Change those leaves of an optimizer state that mirror the leaves named in `shapes`.

    A leaf of the state belongs to the variables' leaf whose path its own path ends with, whether
    `tx` was initialised on all variables, on their `params`, or on a flat `{path: leaf}` dict.

    Args:
        tx: the optax transformation that made the state.
        opt_state: its state.
        shapes: the shape that each leaf to be changed has now, by path.
        change: maps `{path: array}` to the new arrays.

    Raises:
        ValueError: if a leaf that mirrors a parameter has another shape than it.

    Example:
        >>> tx = optax.trace(0.9)
        >>> state = tx.init({"a": np.ones(4), "b": np.ones(3)})
        >>> half = lambda own: {path: leaf[:2] for path, leaf in own.items()}
        >>> map_optimizer_state(tx, state, {"a": (4,)}, half).trace["a"].shape
        (2,)
    """
    mirrors = optax.tree_utils.tree_map_params(
        tx, lambda _: True, opt_state, transform_non_params=lambda _: False
    )
    leaves, treedef = flatten_with_paths(opt_state)
    is_mirror, _ = flatten_with_paths(mirrors)
    # Masked places count: they show where a copy of the variables begins.
    places = [path for path in leaves if is_mirror.get(path)] + _masked(opt_state)
    matched = match_paths(places, list(shapes))
    owner = {path: matched.get(path) for path in leaves}
    wrong = [
        f"{path} {np.shape(leaves[path])} for {own} {shapes[own]}"
        for path, own in owner.items()
        if own is not None and tuple(np.shape(leaves[path])) not in (shapes[own], ())
    ]
    if wrong:
        raise ValueError(
            "the state of a parameter has the parameter's shape, but " + "; ".join(wrong) + "; "
            "pass the state of the uncompressed variables"
        )
    new = dict(leaves)
    for path, own in owner.items():
        if own is not None and np.shape(leaves[path]):
            new[path] = change({own: leaves[path]})[own]
    return jax.tree.unflatten(treedef, list(new.values()))


def _masked(opt_state: Any) -> list[str]:
    """Return the paths at which an optimizer holds no state for a parameter."""
    is_masked = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    pairs = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=is_masked)
    return [path_string(path) for path, node in pairs if is_masked(node)]
