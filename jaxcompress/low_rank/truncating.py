"""Truncated kernels at their original shapes: many ranks through one compiled function."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.compression.precision import widened
from jaxcompress.compression.record import Compression
from jaxcompress.graph import Graph
from jaxcompress.graph.matrices import to_kernel
from jaxcompress.low_rank.factorizing import factorize
from jaxcompress.low_rank.factors import Decomposition
from jaxcompress.low_rank.site_factors import decompositions, to_halves
from jaxcompress.paths import flatten_with_paths

__all__ = ["multiplied_out", "truncations"]


def truncations(
    graph: Graph,
    variables: PyTree,
    forms: Mapping[str, str],
    roots: Mapping[str, Array] | None = None,
    output_roots: Mapping[str, Array] | None = None,
) -> Callable[[Mapping[str, Any]], Any]:
    """Decompose sites once; return `at(ranks) -> variables` of the original shapes.

    The original function on them equals what `factorize` makes of it, at the original's cost: many
    ranks are compared by one compiled function. Ranks may be traced; sites with None, or not named,
    keep their kernels.

    Args:
        graph: of a function of the variables.
        variables: its variables.
        forms: "spatial", "channel" or "dense" per site.
        roots: see `factorize`.
        output_roots: see `factorize`.

    Raises:
        ValueError: if a site or form does not exist, or its kernel is used in other ways too.

    Example:
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.array([3.0, 1.0]))}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 2)))
        >>> truncations(graph, variables, {"a": "dense"})({"a": 1})["a"].round(5).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
    """
    sites = factorize(graph, dict.fromkeys(forms, 1), forms).spec["sites"]
    leaves, treedef = flatten_with_paths(variables)
    kernels = {path: leaves[path] for path in sites}
    parts = decompositions(kernels, sites, roots, output_roots)

    def at(ranks: Mapping[str, Array]) -> Array:
        chosen = {path: rank for path, rank in ranks.items() if rank is not None}
        made = {
            path: _truncated(parts[path], rank, sites[path], leaves[path])
            for path, rank in chosen.items()
        }
        return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))

    return at


def _truncated(parts: Decomposition, rank: Any, site: Mapping[str, Json], leaf: Array) -> jax.Array:
    """Multiply the largest `rank` values out to a kernel of the leaf's shape."""
    kept = jnp.arange(parts.values.shape[-1]) < rank
    matrix = (parts.left * (parts.values * kept)[..., None, :]) @ parts.right
    return to_kernel(matrix, site, leaf)


def multiplied_out(lowrank: Compression, small: PyTree) -> PyTree:
    """Return variables of the original shapes whose kernels are the products of the factors.

    Args:
        lowrank: of `factorize`.
        small: variables as `lowrank.variables` makes them, trained or refined since or not.

    Example:
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.array([3.0, 1.0]))}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 2)))
        >>> lowrank = factorize(graph, {"a": 1})
        >>> multiplied_out(lowrank, lowrank.variables(variables))["a"].round(5).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
    """
    sites = lowrank.spec["sites"]
    leaves, treedef = flatten_with_paths(small, whole=sites)
    made = _products({path: leaves[path] for path in sites}, json.dumps(dict(sites)))
    return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))


@functools.partial(jax.jit, static_argnames="described")
def _products(factors: Mapping[str, PyTree], described: str) -> dict[str, jax.Array]:
    """Multiply the factors of all sites, by path, in one program."""
    made = {}
    for path, site in json.loads(described).items():
        left, right = to_halves(factors[path], site)
        like = jax.ShapeDtypeStruct(tuple(site["shape"]), left.dtype)
        made[path] = to_kernel(widened(left) @ widened(right), site, like)
    return made
