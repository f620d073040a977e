"""`factorize`: replace kernels by two factors of low rank, in variables and functions.

The leaf `kernel` becomes the subtree `kernel/first`, `kernel/second`; the function's one conv or
dot becomes two, with bias, BatchNorm and nonlinearity after the second as they were after the one.
The middle axis of the two is an ordinary group of channels for `trace`: ranks can be gated, scored
and shrunk like widths.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.record import Compression
from jaxcompress.compression.standing_in import run_standing_in
from jaxcompress.graph import Graph
from jaxcompress.graph.internals import abstract
from jaxcompress.layouts import is_split
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.restarting import restart_factors
from jaxcompress.low_rank.site_factors import FACTORS, decompositions, split_leaves
from jaxcompress.low_rank.spreading import spread
from jaxcompress.low_rank.two_ops import Factored, two_ops
from jaxcompress.paths import flatten_with_paths

__all__ = ["factorize", "from_spec"]


def factorize(
    graph: Graph,
    ranks: Mapping[str, int | None],
    forms: Mapping[str, str] | None = None,
    roots: Mapping[str, Array] | None = None,
    output_roots: Mapping[str, Array] | None = None,
) -> Compression:
    """Replace the kernels of sites by two factors of the given ranks.

    W = U S V^T is cut to rank r and split into U sqrt(S) and sqrt(S) V^T. At full rank the function
    is unchanged up to rounding. Factors have the kernel's dtype; half precision is decomposed in
    float32. Kernels that are split over devices are decomposed one at a time, each on one device,
    and their factors split again (`jaxcompress.layouts`).

    Args:
        graph: of a function of the variables.
        ranks: rank per site, 1 to the form's `full`; sites with None, or not named, stay as they
            are. The rank of a grouped convolution is that of each group.
        forms: "spatial", "channel" or "dense" per site; the site's first form by default.
        roots: `R` with R R^T the covariance of the site's input rows, `[groups, rows, rows]` per
            site (see `input_roots`): the factors then minimise the error of the site's output
            instead of that of its kernel.
        output_roots: `S` by site (see `output_roots` of this package): with them they minimise the
            expected error of the function's outputs.

    Returns:
        The compression. Optimizer state of replaced kernels starts again from zero.

    Raises:
        ValueError: if a site or form does not exist, a rank is out of range, or a kernel is used
            in other ways too; all offenders are named.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((8, 6)), "b": jnp.ones((6, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 8)))
        >>> lowrank = factorize(graph, {"a": 2})
        >>> small = lowrank.variables(variables)
        >>> small["a"]["first"].shape, small["a"]["second"].shape
        ((8, 2), (2, 6))
        >>> lowrank.function(apply)(small, jnp.ones((5, 8))).shape
        (5, 2)
    """
    wanted = {path: rank for path, rank in ranks.items() if rank is not None}
    forms = dict(forms or {})
    check_sites(graph, {**wanted, **forms})
    sites: dict[str, Array] = {}
    for path in graph.sites:
        if path in wanted:
            site = graph.sites[path]
            sites[path] = {
                **site.described(forms.get(path, site.forms[0].name)),
                "dtype": str(graph.leaves[path].dtype),
                "rank": wanted[path],
            }
    _check_ranks(graph, sites)
    sites = {path: {**site, "rank": int(site["rank"])} for path, site in sites.items()}
    return from_spec({"kind": "factorize", "sites": sites}, roots, output_roots)


def _check_ranks(graph: Graph, sites: Mapping[str, Array]) -> None:
    wrong = []
    for path, site in sites.items():
        known = {form.name: form for form in graph.sites[path].forms}
        if site["form"] not in known:
            wrong.append(f"{path}: no form {site['form']!r}, only {', '.join(known)}")
        elif isinstance(site["rank"], bool) or not isinstance(site["rank"], int | np.integer):
            wrong.append(f"{path}: rank {site['rank']!r} is no integer")
        elif not 1 <= site["rank"] <= known[site["form"]].full:
            wrong.append(f"{path}: rank {site['rank']} not in 1..{known[site['form']].full}")
    if wrong:
        raise ValueError(f"ranks go from 1 to min(rows, columns), but {'; '.join(wrong)}")


def from_spec(
    spec: Mapping[str, Json],
    roots: Mapping[str, Array] | None = None,
    output_roots: Mapping[str, Array] | None = None,
) -> Compression:
    """Make a factorizing compression from what `Compression.spec` said of it.

    Example:
        >>> from_spec({"kind": "factorize", "sites": {}}).variables({"a": 1.0})
        {'a': 1.0}
    """
    sites = spec["sites"]
    forms = {path: site["form"] for path, site in sites.items()}

    def factors(leaves: Mapping[str, Array]) -> dict[str, dict[str, Json]]:
        these = {path: site for path, site in sites.items() if path in leaves}
        return split_leaves(decompositions(leaves, these, roots, output_roots), leaves, these)

    def whole_and_split(kernels: Mapping[str, Array]) -> dict[str, dict[str, Json]]:
        split = {path: leaf for path, leaf in kernels.items() if is_split(leaf)}
        made = factors({path: leaf for path, leaf in kernels.items() if path not in split})
        for path, leaf in split.items():
            made |= spread(factors, path, leaf)
        return made

    def variables(tree: PyTree) -> PyTree:
        leaves, treedef = flatten_with_paths(tree)
        _check_kernels(leaves, sites)
        kernels = {path: leaves[path] for path in sites}
        is_abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in kernels.values())
        made = jax.eval_shape(factors, kernels) if is_abstract else whole_and_split(kernels)
        return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))

    def function(f: Function) -> Function:
        if not sites:
            return f

        @functools.wraps(f)
        def factorized(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
            leaves, treedef = flatten_with_paths(tree, whole=sites)
            _check_factors(leaves, sites)
            original = {
                path: abstract(leaf["first"], sites[path]["shape"]) if path in sites else leaf
                for path, leaf in leaves.items()
            }
            factors = {
                path: Factored(leaves[path]["first"], leaves[path]["second"]) for path in sites
            }
            return run_standing_in(
                f, (treedef, original), factors, two_ops(forms), inputs, keywords
            )

        return factorized

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        return restart_factors(tx, opt_state, sites)

    return Compression(dict(spec), variables, function, optimizer_state)


def _check_kernels(leaves: Mapping[str, Array], sites: Mapping[str, Array]) -> None:
    wrong = [
        f"{path}: {'missing' if path not in leaves else np.shape(leaves[path])}, "
        f"expected {tuple(site['shape'])}"
        for path, site in sites.items()
        if path not in leaves or list(np.shape(leaves[path])) != list(site["shape"])
    ]
    if wrong:
        raise ValueError(
            "the variables to factorize have the kernels that the compression was made for, but "
            f"{'; '.join(wrong)}"
        )


def _check_factors(leaves: Mapping[str, Array], sites: Mapping[str, Array]) -> None:
    wrong = [
        path
        for path in sites
        if not isinstance(leaves.get(path), Mapping) or set(leaves[path]) != set(FACTORS)
    ]
    if wrong:
        raise ValueError(
            "the factorized function takes variables in which each kernel is "
            f"{{'first', 'second'}}, but these are not: {wrong}; pass the result of `variables`"
        )
