"""Optimizer states of factorized kernels: what belonged to a kernel starts anew for its factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.compression.optimizer_state import Owned, restart_nodes, state_owners
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.layouts import fit_layout, layout_of
from jaxcompress.low_rank.site_factors import FACTORS, to_leaves
from jaxcompress.paths import flatten_with_paths, path_string

__all__ = ["restart_factors"]

Sites = Mapping[str, Any]


def restart_factors(tx: optax.GradientTransformation, opt_state: PyTree, sites: Sites) -> PyTree:
    """Replace what belongs to a replaced kernel by its start for the two factors.

    What has the kernel's shape becomes zeros for the factors. Where a state has other shapes
    (Adafactor's rows and columns, SM3's axes) it becomes what `tx.init` makes for the factors. A
    history of updates (L-BFGS) starts again whole, with a `RestartedState` warning. All else stays.

    Args:
        tx: the optax transformation that made the state.
        opt_state: its state.
        sites: described, with their `rank`, by path.

    Raises:
        ValueError: if `tx` cannot be initialised on the factors where that is needed.
    """
    opt_state = jax.tree.map(
        lambda node: _flat(node, sites), opt_state, is_leaf=lambda node: _is_flat(node, sites)
    )
    owned = state_owners(opt_state, list(sites), masked_too=True)
    shapes = {path: np.shape(leaf) for path, leaf in flatten_with_paths(opt_state)[0].items()}
    places = {_place(path, owner): owner for path, owner in owned.items() if shapes.get(path) != ()}
    leaves, treedef = flatten_with_paths(opt_state, whole=set(places))
    for path in places.keys() & leaves.keys():
        if isinstance(leaves[path], optax.MaskedNode):
            leaves[path] = dict.fromkeys(FACTORS, optax.MaskedNode())
            del places[path]
    alike = {p for p, owner in places.items() if shapes.get(p) == tuple(sites[owner.path]["shape"])}
    for path in alike:
        leaves[path] = _zeros(sites[places[path].path], leaves[path])
    others = {path: owner for path, owner in places.items() if path not in alike}
    if others:
        leaves |= _initial(tx, opt_state, owned, others, sites)
        ndims = {path: len(sites[owner.path]["shape"]) for path, owner in others.items()}
        restart_nodes(leaves, {others[p].copy for p in others if len(shapes.get(p, ())) > ndims[p]})
    return jax.tree.unflatten(treedef, list(leaves.values()))


def _place(path: str, owner: Owned) -> str:
    return path if owner.axis is None else path.rpartition("/")[0]


def _zeros(site: Mapping[str, Json], leaf: Array) -> dict[str, Array]:
    made, layout = _factors(site, jnp.result_type(leaf)), layout_of(leaf)

    def zeros(factor: jax.ShapeDtypeStruct) -> jax.Array:
        split = None if layout is None else fit_layout(layout, np.shape(leaf), factor.shape)
        return jnp.zeros(factor.shape, factor.dtype, device=split)

    return jax.tree.map(zeros, made)


def _factors(site: Mapping[str, Json], dtype: DTypeLike) -> dict[str, Array]:
    """Return the abstract values of a site's two factors."""
    leaf = jax.ShapeDtypeStruct(tuple(site["shape"]), dtype)
    whole = jax.eval_shape(lambda kernel: site_matrices({"": kernel}, {"": site})[""], leaf)
    *front, rows, columns = whole.shape
    halves = (*front, rows, site["rank"]), (*front, site["rank"], columns)
    avals = [jax.ShapeDtypeStruct(shape, dtype) for shape in halves]
    return jax.eval_shape(lambda left, right: to_leaves(left, right, site), *avals)


def _initial(
    tx: optax.GradientTransformation,
    opt_state: PyTree,
    owned: Mapping[str, Owned],
    places: Mapping[str, Owned],
    sites: Sites,
) -> dict[str, Array]:
    """Return what `tx.init` makes for the factors, at each place of the state."""
    copy = min({owner.copy for owner in owned.values() if owner.axis is None}, key=len)
    name = copy.rstrip("/")
    copied = flatten_with_paths(opt_state, whole={name})[0][name]
    is_masked = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    pairs, treedef = jax.tree_util.tree_flatten_with_path(copied, is_leaf=is_masked)
    params = []
    for keys, leaf in pairs:
        owner = owned.get(copy + path_string(keys))
        dtype = jnp.float32 if is_masked(leaf) else leaf.dtype
        zeros = jnp.zeros((1,) if is_masked(leaf) else leaf.shape, dtype)
        params.append(zeros if owner is None else _zeros(sites[owner.path], zeros))
    try:
        state = tx.init(jax.tree.unflatten(treedef, params))
    except Exception as error:
        raise ValueError(
            "a state that has not the shape of its kernel starts as tx.init makes it for the "
            f"factors, but on the tree of {name} it raises {type(error).__name__}: {error}; pass "
            "the `tx` that made the state, or start a new one"
        ) from error
    initial = flatten_with_paths(state, whole=set(places))[0]
    missing = [path for path in places if path not in initial]
    if missing:
        raise ValueError(
            f"a state is mapped with the `tx` that made it, but this one has none at {missing}"
        )
    return {path: initial[path] for path in places}


def _flat(node: Array, sites: Sites) -> PyTree:
    """Replace the kernels of a `{path: leaf}` dict by flat entries for their factors."""
    if not _is_flat(node, sites):
        return node
    new: dict[str, Array] = {}
    for key, leaf in node.items():
        if key in sites and np.shape(leaf):
            new |= {f"{key}/{name}": factor for name, factor in _zeros(sites[key], leaf).items()}
        else:
            new[key] = leaf
    return new


def _is_flat(node: Array, sites: Sites) -> bool:
    """Tell whether a node of an optimizer state is a `{path: leaf}` dict that names a site."""
    return isinstance(node, dict) and any("/" in str(key) and key in sites for key in node)
