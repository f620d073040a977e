"""Masks: which weights of which leaves are kept, as trees like the variables.

A mask is `bool` of its leaf's shape, True = kept; a leaf that is exempt from pruning has the scalar
True, which broadcasts, so that masks never hold None. Masks are told apart by leaf path: a tree
like the variables, one of their trainable leaves, or a flat dict `{path: mask}` all do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import Graph, default_trainable
from jaxcompress.paths import check_matched, fits_any, flatten_with_paths
from jaxcompress.sparse.oriented import sites_of

__all__ = ["check_masks", "in_program_order", "masked", "nonzero_masks", "prunable"]

EXEMPT = ("bias", "scale", "embedding")
"""How the names of leaves end that are exempt, however many axes they have."""


def in_program_order(paths: Iterable[str], graph: Graph | None) -> tuple[str, ...]:
    """Order leaves as the graph's program first reads them; without a graph they stay as they are.

    What is drawn at random, or equally good, is then the same whatever the leaves are called.

    Example:
        >>> from jaxcompress.graph import trace
        >>> variables = {"b": np.ones((3, 4)), "a": np.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["b"] @ v["a"], variables, np.ones((1, 3)))
        >>> in_program_order(["a", "b"], graph)
        ('b', 'a')
    """
    read = [] if graph is None else list(graph.uses)
    number = {path: place for place, path in enumerate(read)}
    return tuple(sorted(paths, key=lambda path: number.get(path, len(read))))


def prunable(
    leaves: Mapping[str, Array],
    protect: Sequence[str] = (),
    *,
    graph: Graph | None = None,
    include: Sequence[str] = (),
) -> tuple[str, ...]:
    """Name the leaves that pruning touches: trainable kernels that are not protected.

    With a graph, kernels are the leaves that are contracted and read in no other way, so that
    biases, scales and embeddings are exempt however many axes they have. Without one, they are the
    leaves of two axes or more whose name does not end in `bias`, `scale` or `embedding`: pass a
    graph where other names (Equinox' `weight` of a norm or an embedding) stand for these.

    Args:
        leaves: by path.
        protect: shell-style patterns of paths to exempt as well, e.g. `"*/classifier/*"`.
        graph: of a function of these variables.
        include: shell-style patterns of leaves of two axes or more to prune though they would be
            exempt, e.g. `"*/embedding"`.

    Returns:
        Their paths, in the order of `in_program_order`.

    Raises:
        ValueError: if a pattern matches no leaf, a leaf is not the graph's, or nothing is left to
            prune.

    Example:
        >>> shapes = {"a/kernel": (2, 2), "b/kernel": (2, 2), "b/bias": (2,)}
        >>> leaves = {path: np.ones(shape) for path, shape in shapes.items()}
        >>> prunable(leaves, protect=["a/*"])
        ('b/kernel',)
    """
    trainable = default_trainable(dict(leaves))
    check_matched("protect", protect, leaves)
    matrices = {path: leaf for path, leaf in leaves.items() if np.ndim(leaf) >= 2 and np.size(leaf)}
    open_to = [
        path
        for path, leaf in matrices.items()
        if trainable(path, leaf) and not fits_any(path, protect)
    ]
    asked = [path for path in open_to if fits_any(path, include)]
    check_matched("include", include, open_to)
    kernels = set(asked) | set(_kernels(leaves, open_to, graph))
    paths = in_program_order([path for path in open_to if path in kernels], graph)
    if not paths:
        raise ValueError(
            "pruning takes trainable kernels of two axes or more, but there is none that is not "
            f"protected among {list(leaves)[:8]} and so on"
        )
    return paths


def _kernels(leaves: Mapping[str, Array], paths: Sequence[str], graph: Graph | None) -> list[str]:
    if graph is None:
        return [path for path in paths if not path.lower().endswith(EXEMPT)]
    # A table that is looked up as well as contracted (tied embeddings) is no mere kernel.
    sites = sites_of(leaves, paths, graph)
    return [p for p, s in sites.items() if not s.other_uses and not p.lower().endswith(EXEMPT)]


def check_masks(leaves: Mapping[str, Array], masks: Mapping[str, Array]) -> None:
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


def masked(tree: PyTree, masks: PyTree) -> PyTree:
    """Return the tree with exact zeros where the mask is 0; leaves without a mask stay.

    Example:
        >>> masked({"a": jnp.array([-1.0, 2.0])}, {"a": jnp.array([False, True])})["a"].tolist()
        [0.0, 2.0]
    """
    leaves, treedef = flatten_with_paths(tree)
    by_path, _ = flatten_with_paths(masks)
    new = [
        # Not a product, which would leave -0.0 and NaN behind.
        jnp.where(by_path[path], leaf, jnp.zeros((), jnp.result_type(leaf)))
        if np.ndim(by_path.get(path, True))
        else leaf
        for path, leaf in leaves.items()
    ]
    return jax.tree.unflatten(treedef, new)


def nonzero_masks(
    variables: PyTree,
    protect: Sequence[str] = (),
    *,
    graph: Graph | None = None,
    include: Sequence[str] = (),
) -> dict[str, jax.Array]:
    """Return the masks that a pruned network's zeros stand for, by path.

    Args:
        variables: of the pruned network.
        protect: see `prunable`.
        graph: see `prunable`.
        include: see `prunable`.

    Raises:
        ValueError: if a pattern matches no leaf, a leaf is not the graph's, or nothing is left.

    Example:
        >>> nonzero_masks({"a": jnp.array([[0.0, 2.0]])})["a"].tolist()
        [[False, True]]
    """
    leaves, _ = flatten_with_paths(variables)
    paths = prunable(leaves, protect, graph=graph, include=include)
    return {path: jnp.asarray(leaves[path]) != 0 for path in paths}
