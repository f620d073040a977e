"""The sites of a graph: their spectra, and the record that is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jax.typing import ArrayLike

from jaxcompress.annotations import PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.graph import Graph
from jaxcompress.graph.cost import KINDS
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.ranks.defaults import default_forms, nothing_to_factorize
from jaxcompress.low_rank.ranks.forms import FactorCost
from jaxcompress.low_rank.ranks.from_costs import sites_from_costs
from jaxcompress.low_rank.ranks.sites import Sites
from jaxcompress.low_rank.ranks.spectrum import singular_values
from jaxcompress.paths import flatten_with_paths

__all__ = ["sites_of", "spectra"]


def spectra(
    graph: Graph,
    variables: PyTree,
    forms: Mapping[str, str] | None = None,
    roots: Mapping[str, ArrayLike] | None = None,
    output_roots: Mapping[str, ArrayLike] | None = None,
) -> dict[str, np.ndarray]:
    """Return the singular values of every site, falling, `float64[full]` by path.

    Those of groups and of scanned kernels are averaged, as ENC does for groups.

    Args:
        graph: of a function of the variables.
        variables: its variables.
        forms: "spatial", "channel" or "dense" by site; `default_forms(graph)` by default.
        roots: R by site, see `input_roots`: the values are then those of R^T M, whose squares are
            the squared errors of the output that cutting them causes.
        output_roots: S by site, see `low_rank.output_roots`: of R^T M S, whose squares are
            the expected squared errors of the function's outputs.

    Raises:
        ValueError: if a site or form does not exist, or a kernel is not finite; all are named.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.diag(jnp.array([3.0, 1.0]))}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 2)))
        >>> spectra(graph, variables, {"a": "dense"})["a"].round(3).tolist()
        [3.0, 1.0]
    """
    forms = default_forms(graph) if forms is None else forms
    check_sites(graph, forms)
    leaves, _ = flatten_with_paths(variables)
    layouts = {path: graph.sites[path].described(form) for path, form in forms.items()}
    kernels = {path: leaves[path] for path in forms}
    matrices = site_matrices(kernels, layouts)
    roots, output_roots = roots or {}, output_roots or {}
    arrays = {
        path: _weighted(matrices[path], roots.get(path), output_roots.get(path)) for path in forms
    }
    _check_finite(arrays)
    return _same_shaped(arrays)


def _weighted(
    matrix: ArrayLike, root: ArrayLike | None, output_root: ArrayLike | None
) -> np.ndarray:
    wide = np.asarray(matrix, np.float64)
    wide = wide if root is None else np.asarray(root, np.float64).swapaxes(-1, -2) @ wide
    return wide if output_root is None else wide @ np.asarray(output_root, np.float64)


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    wrong = [path for path, matrix in arrays.items() if not np.isfinite(matrix).all()]
    if wrong:
        raise ValueError(
            f"a kernel must be finite to be factorized, but {', '.join(wrong)} hold NaN or "
            "infinity; train or load them again, or leave these sites out of `forms`"
        )


def _same_shaped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the mean singular values of each site; those of one shape are found together."""
    shapes: dict[tuple[int, ...], list[str]] = {}
    for path, matrix in arrays.items():
        shapes.setdefault(matrix.shape, []).append(path)
    means: dict[str, np.ndarray] = {}
    for paths in shapes.values():
        stacked = singular_values(np.stack([arrays[path] for path in paths]))
        for path, values in zip(paths, stacked, strict=True):
            means[path] = values.reshape(-1, values.shape[-1]).mean(0)
    return {path: means[path] for path in arrays}


def sites_of(
    graph: Graph,
    variables: PyTree,
    forms: Mapping[str, str] | None = None,
    roots: Mapping[str, ArrayLike] | None = None,
    output_roots: Mapping[str, ArrayLike] | None = None,
    *,
    multiple_of: int = 1,
) -> Sites:
    """Return the sites of a graph: forms, costs (flops, params, bytes), spectra and knots.

    They are in the order of their first use, in whatever order `forms` names them. Totals are those
    of the graph, so that fractions of a `Budget` are of the whole network.

    Args:
        graph: see `spectra`.
        variables: see `spectra`.
        forms: see `spectra`.
        roots: see `spectra`.
        output_roots: see `spectra`.
        multiple_of: every search returns ranks that are multiples of this, or None; 8 or 128 suit
            hardware lanes. Sites without a multiple below their neutral rank are left alone.

    Raises:
        ValueError: if a site or form does not exist, a kernel is not finite, or there is no site;
            all are named.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.eye(8), "b": jnp.eye(8)}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 8)))
        >>> sites = sites_of(graph, variables, forms={"a": "dense"})
        >>> sites.r_max.tolist(), sites.total["flops"] == graph.flops
        ([4], True)
        >>> sites_of(graph, variables, {"a": "dense"}, multiple_of=2).clip(np.array([3])).tolist()
        [2]
    """
    require(multiple_of=integer(multiple_of))
    forms = default_forms(graph) if forms is None else forms
    if not forms:
        raise ValueError(nothing_to_factorize(graph))
    values = spectra(graph, variables, forms, roots, output_roots)
    # The searches break ties by place, which must not depend on the order of `forms`.
    forms = {path: forms[path] for path in graph.sites if path in forms}
    costs = [_cost(graph, path, form) for path, form in forms.items()]
    chosen = [graph.sites[path].form(form) for path, form in forms.items()]
    return sites_from_costs(
        list(forms),
        costs,
        [values[path] for path in forms],
        [(form.rows, form.columns) for form in chosen],
        rest=_rest(graph, costs),
        forms=forms,
        multiple_of=multiple_of,
    )


def _cost(graph: Graph, path: str, name: str) -> FactorCost:
    site = graph.sites[path]
    form = site.form(name)
    itemsize = np.dtype(graph.leaves[path].dtype).itemsize
    return FactorCost(
        r_max=max(1, min(round(site.params / form.params), form.full)),
        slope={
            "flops": form.flops,
            "params": float(form.params),
            "bytes": float(form.params * itemsize),
        },
        dense={
            "flops": site.flops,
            "params": float(site.params),
            "bytes": float(site.params * itemsize),
        },
    )


def _rest(graph: Graph, costs: Sequence[FactorCost]) -> dict[str, float]:
    total = {kind: float(graph.cost.of(kind)) for kind in KINDS}
    return {kind: total[kind] - sum(cost.dense[kind] for cost in costs) for kind in KINDS}
