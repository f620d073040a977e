"""Masks: which weights of which leaves are kept, as trees like the variables.

A mask is `bool` of its leaf's shape, True = kept; a leaf that is exempt from pruning has the scalar
True, which broadcasts, so that masks never hold None. Masks are told apart by leaf path: a tree
like the variables, one of their trainable leaves, or a flat dict `{path: mask}` all do.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.graph import default_trainable, flatten_with_paths

__all__ = ["check_masks", "masked", "nonzero_masks", "prunable"]


def prunable(leaves: Mapping[str, Any], protect: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the leaves that pruning touches: trainable, of two axes or more, not protected.

    Biases and the scales of norms have one axis, so they are exempt.

    Args:
        leaves: by path.
        protect: shell-style patterns of paths to exempt as well, e.g. `"*/classifier/*"`.

    Raises:
        ValueError: if a pattern matches no leaf, or nothing is left to prune.

    Example:
        >>> shapes = {"a/kernel": (2, 2), "b/kernel": (2, 2), "b/bias": (2,)}
        >>> leaves = {path: np.ones(shape) for path, shape in shapes.items()}
        >>> prunable(leaves, protect=["a/*"])
        ('b/kernel',)
    """
    unmatched = [pattern for pattern in protect if not fnmatch.filter(leaves, pattern)]
    if unmatched:
        raise ValueError(
            f"protect names leaves by shell-style patterns of their paths, but {unmatched} match "
            f"none of {list(leaves)[:8]} and so on"
        )
    trainable = default_trainable(dict(leaves))
    found = tuple(
        path
        for path, leaf in leaves.items()
        if np.ndim(leaf) >= 2
        and trainable(path, leaf)
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in protect)
    )
    if not found:
        raise ValueError(
            "pruning takes trainable leaves of two axes or more, but there is none that is not "
            f"protected among {list(leaves)[:8]} and so on"
        )
    return found


def check_masks(leaves: Mapping[str, Any], masks: Mapping[str, Any]) -> None:
    """Raise unless every mask belongs to a leaf and is 0/1 of its shape, or the scalar True.

    Raises:
        ValueError: naming all offenders.
        TypeError: if a mask is traced.
    """
    traced = [path for path, mask in masks.items() if isinstance(mask, jax.core.Tracer)]
    if traced:
        raise TypeError(
            f"a mask is counted on the host, but {traced} are traced; inside jit use `masked`"
        )
    wrong = [f"{path}: no such leaf" for path in masks if path not in leaves]
    for path, mask in masks.items():
        if path in leaves and np.shape(mask) not in ((), np.shape(leaves[path])):
            wrong.append(f"{path}: {np.shape(mask)}, the leaf is {np.shape(leaves[path])}")
        elif not np.isin(np.asarray(mask), (0, 1)).all():
            wrong.append(f"{path}: values other than 0 and 1")
        elif np.ndim(mask) == 0 and not mask:
            wrong.append(f"{path}: the scalar False, which removes a whole leaf")
    if wrong:
        raise ValueError(
            f"masks are 0/1 per weight of the leaf at their path, but {'; '.join(wrong)}; pass the "
            "masks that were made for these variables"
        )


def masked(tree: Any, masks: Any) -> Any:
    """Return the tree with exact zeros where the mask is 0; leaves without a mask stay.

    Example:
        >>> masked({"a": jnp.array([-1.0, 2.0])}, {"a": jnp.array([False, True])})["a"].tolist()
        [0.0, 2.0]
    """
    own, treedef = flatten_with_paths(tree)
    by_path, _ = flatten_with_paths(masks)
    new = [
        # Not a product, which would leave -0.0 and NaN behind.
        jnp.where(by_path[path], leaf, jnp.zeros((), jnp.result_type(leaf)))
        if np.ndim(by_path.get(path, True))
        else leaf
        for path, leaf in own.items()
    ]
    return jax.tree.unflatten(treedef, new)


def nonzero_masks(variables: Any, protect: Sequence[str] = ()) -> dict[str, jax.Array]:
    """Return the masks that a pruned network's zeros stand for, by path.

    Example:
        >>> nonzero_masks({"a": jnp.array([[0.0, 2.0]])})["a"].tolist()
        [[False, True]]
    """
    leaves, _ = flatten_with_paths(variables)
    return {path: jnp.asarray(leaves[path]) != 0 for path in prunable(leaves, protect)}
