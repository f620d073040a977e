"""Kernels that make up for what the changed network before them has lost.

Factors fitted to the original's inputs reproduce a site's outputs only as long as earlier sites are
whole. Given the inputs that the changed network really has, y, the best kernel for the original's
outputs x^T M is M' = E[y y^T]^-1 E[y x^T] M (Zhang et al. 2016, arXiv:1505.06798, section 3.3, who
go from site to site; here all sites change at once, a step at a time, because what one makes up for
its successors need not).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.backend import compiled
from jaxcompress.compression.observing import observe, over_uses
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.graph.matrices import site_matrices, to_kernels
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.statistics.covariance import covariances_of
from jaxcompress.low_rank.statistics.moments import per_row
from jaxcompress.low_rank.statistics.site_inputs import There, extended_rows
from jaxcompress.paths import flatten_with_paths

__all__ = ["compensate"]

Products = dict[str, tuple[np.ndarray, np.ndarray]]


def compensate(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    changed: Any,
    batches: Iterable[Batch],
    forms: Mapping[str, str],
    step: float = 0.5,
    ridge: float = 1e-3,
    centred: bool = False,
    mask: There | None = None,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Return variables with the kernels M + step (M' - M), and E[y y^T] by path.

    They are targets: give them to `factorize(...).variables` or `refine` in place of the original
    variables, and the covariances too. Repeat with what comes out of that as `changed`.

    Args:
        graph: of `apply`.
        apply: evaluation function `(variables, inputs) -> outputs`.
        variables: the original's.
        changed: of the same shapes, for example of `multiplied_out`, with BatchNorm re-estimated.
        batches: inputs of one shape; both networks' rows of all sites are held at once.
        forms: by site; "channel" for convolutions, whose rows are full patches.
        step: 1 would be right for a site whose predecessors stay as they are.
        ridge: share of the mean variance by which M' is drawn to M.
        centred: see `input_covariances`.
        mask: of padding; see `input_moments`.

    Raises:
        ValueError: if a site or form does not exist, or there is no batch.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: (x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.eye(2), "b": jnp.eye(2)}
        >>> graph, x = trace(apply, variables, jnp.ones((1, 2))), jnp.eye(2)
        >>> halved = {**variables, "a": 0.5 * jnp.eye(2)}
        >>> targets, _ = compensate(graph, apply, variables, halved, [x], {"b": "dense"}, 1.0, 0.0)
        >>> targets["b"].round(3).tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    require(step=real(step, above=0, most=1), ridge=real(ridge, least=0))
    check_sites(graph, forms)
    require_finite("variables", variables, "train or load them again")
    require_finite("changed", changed, "make them again of finite variables")
    products = _products(graph, apply, variables, changed, batches, forms, mask)
    leaves, treedef = flatten_with_paths(variables)
    described = {path: graph.sites[path].described(form) for path, form in forms.items()}
    matrices = site_matrices({path: leaves[path] for path in forms}, described)
    covariances, targets = {}, {}
    for path, (auto, cross) in products.items():
        moments = {"auto": auto, "cross": cross}
        parts = covariances_of(moments, centred)
        covariances[path] = parts["auto"]
        moved = _moved(
            parts["auto"], parts["cross"], np.asarray(matrices[path], np.float64), step, ridge
        )
        targets[path] = jnp.asarray(moved)
    dtypes = {path: jnp.result_type(leaves[path]) for path in forms}
    kernels = to_kernels(targets, described, dtypes)
    return jax.tree.unflatten(treedef, list({**leaves, **kernels}.values())), covariances


def _moved(
    auto: np.ndarray, cross: np.ndarray, matrix: np.ndarray, step: float, ridge: float
) -> np.ndarray:
    """Return M + step (M' - M), M' = (E[y y^T] + a I)^-1 (E[y x^T] + a I) M."""
    mean = np.trace(auto, axis1=-2, axis2=-1)[..., None, None] / auto.shape[-1]
    added = np.where(mean > 0, ridge * mean, 1.0) * np.eye(auto.shape[-1])
    best = np.linalg.solve(auto + added, (cross + added) @ matrix)
    return np.asarray(matrix + step * (best - matrix))


def _products(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    changed: Any,
    batches: Iterable[Batch],
    forms: Mapping[str, str],
    mask: There | None,
) -> Products:
    """Return the means of (y, 1) (y, 1)^T and (y, 1) (x, 1)^T of each site."""

    def means(original: Any, other: PyTree, inputs: PyTree) -> dict[str, tuple[Any, Any]]:
        x, y = (_rows(graph, apply, tree, inputs, forms, mask) for tree in (original, other))
        return {
            path: (_mean(graph, path, y[path], y[path]), _mean(graph, path, y[path], x[path]))
            for path in forms
        }

    run, total, count = compiled(means), None, 0
    for inputs in batches:
        mean = jax.tree.map(lambda a: np.asarray(a, np.float64), run(variables, changed, inputs))
        total = mean if total is None else jax.tree.map(np.add, total, mean)
        count += 1
    if total is None:
        raise ValueError("a covariance needs data, but there is no batch; pass at least one")
    require_finite("input covariances", total, "look for NaN in the batches")
    result: Products = jax.tree.map(per_row, total)
    return result


def _rows(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    inputs: PyTree,
    forms: Mapping[str, str],
    mask: There | None,
) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {path: [] for path in forms}
    there = None if mask is None else mask(inputs)

    def look(path: str, node: Node, arrays: Sequence[Array], position: int) -> None:
        seen = extended_rows(graph, node, arrays, position, path, forms[path], there)
        rows[path].append(seen)

    observe(apply, variables, inputs, forms, look)
    return rows


def _mean(graph: Graph, path: str, left: Sequence[Array], right: Sequence[Array]) -> Array:
    """Return the mean of l r^T over examples, positions and uses."""
    pairs = zip(left, right, strict=True)
    means = [jnp.einsum("ngr,ngs->grs", a, b, precision="highest") / len(a) for a, b in pairs]
    return over_uses(graph, path, means).mean(0)
