"""What each site's rows are multiplied with, as a covariance: for factors that know the data.

A site computes x^T M for many x: the contracted features of a dot, the vertical (`spatial`) or full
(`channel`) patches of an image. With C = E[x x^T] = R R^T, cutting R^T M instead of M minimises the
error of the output, E |x^T (M - M_r)|^2 (Chen et al. 2021, "DRONE: Data-aware low-rank compression
for large NLP models"). For `spatial` this counts the error of each horizontal tap apart. Centred
covariances do not count the mean error, which a BatchNorm takes away once it is re-estimated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.backend import compiled
from jaxcompress.compression.observing import observe
from jaxcompress.compression.precision import exact
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.statistics.moments import far_means, moved_back, per_row
from jaxcompress.low_rank.statistics.site_inputs import There, extended_rows, over_uses
from jaxcompress.per_device import AxisName, average

__all__ = [
    "covariance_root",
    "covariances_of",
    "input_covariances",
    "input_moments",
    "input_roots",
]


def input_roots(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    forms: Mapping[str, str],
    ridge: float = 1e-4,
    centred: bool = False,
    mask: There | None = None,
) -> dict[str, np.ndarray]:
    """Return R with R R^T the covariance of each site's rows, `[scanned..., groups, rows, rows]`.

    Args:
        graph: of `apply`.
        apply: evaluation function `(variables, inputs) -> outputs`.
        variables: its variables.
        batches: inputs of one shape, for example images `[steps, batch, height, width, channels]`.
        forms: "spatial", "channel" or "dense" per site.
        ridge: share of the mean square, centred or not, that is added to every variance, so that
            rows that never vary, or are fewer than the features, still have a root.
        centred: see `input_covariances`.
        mask: see `input_moments`.

    Raises:
        ValueError: if a site or form does not exist, there is no batch, or a loop or branch that is
            no scan holds a site.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.ones((2, 3))}, jnp.array([[3.0, 0.0], [0.0, 1.0]])
        >>> graph = trace(apply, variables, x)
        >>> roots = input_roots(graph, apply, variables, [x], {"a": "dense"})
        >>> roots["a"].round(2).tolist()
        [[[2.12, 0.0], [0.0, 0.71]]]
    """
    require(ridge=real(ridge, least=0))
    moments = input_moments(graph, apply, variables, batches, forms, mask)
    # Centring leaves rounding of the size of what it takes away: the ridge must be above that.
    whole, about_means = covariances_of(moments), covariances_of(moments, centred)
    return {path: covariance_root(c, ridge, whole[path]) for path, c in about_means.items()}


def covariance_root(covariance: Array, ridge: float = 1e-4, whole: PyTree = None) -> np.ndarray:
    """Return the lower triangular R with R R^T = C + ridge * mean(diag W) * I.

    Args:
        covariance: C, `[..., rows, rows]`.
        ridge: see `input_roots`.
        whole: W, of which C is the centred part; C itself by default.

    Raises:
        ValueError: if C + ridge * mean(diag W) * I is not positive definite, or not finite.

    Example:
        >>> covariance_root(np.diag([4.0, 0.0]), ridge=0.5).tolist()
        [[2.23606797749979, 0.0], [0.0, 1.0]]
    """
    require(ridge=real(ridge, least=0))
    wide = np.asarray(covariance, np.float64)
    require_finite("a covariance", wide, "look for NaN in the batches")
    scale = wide if whole is None else np.asarray(whole, np.float64)
    mean = np.trace(scale, axis1=-2, axis2=-1)[..., None, None] / wide.shape[-1]
    # A site that only ever sees zeros keeps its plain decomposition.
    added = np.where(mean > 0, ridge * mean, 1.0)
    try:
        return np.linalg.cholesky(wide + added * np.eye(wide.shape[-1]))
    except np.linalg.LinAlgError:
        raise ValueError(
            f"a covariance with its ridge must be positive definite, but with ridge={ridge} it is "
            "not; raise the ridge, or give more data"
        ) from None


def input_covariances(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    forms: Mapping[str, str],
    centred: bool = False,
    mask: There | None = None,
    axis_name: AxisName = None,
) -> dict[str, np.ndarray]:
    """Return E[x x^T] of each site's rows, `float64[scanned..., groups, rows, rows]`.

    The mean is over examples and positions.

    Args:
        graph: see `input_roots`.
        apply: see `input_roots`.
        variables: see `input_roots`.
        batches: see `input_roots`.
        forms: see `input_roots`.
        centred: subtract E[x] E[x]^T: for networks whose every site feeds a BatchNorm that will be
            re-estimated; elsewhere the outputs' means would shift.
        mask: see `input_moments`.
        axis_name: see `input_moments`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.ones((2, 3))}, jnp.array([[3.0, 0.0], [0.0, 1.0]])
        >>> graph = trace(apply, variables, x)
        >>> input_covariances(graph, apply, variables, [x], {"a": "dense"})["a"].tolist()
        [[[4.5, 0.0], [0.0, 0.5]]]
    """
    moments = input_moments(graph, apply, variables, batches, forms, mask, axis_name)
    return covariances_of(moments, centred)


def input_moments(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    forms: Mapping[str, str],
    mask: There | None = None,
    axis_name: AxisName = None,
) -> dict[str, np.ndarray]:
    """Return E[(x, 1) (x, 1)^T], `float64[scanned..., groups, rows + 1, rows + 1]`.

    What covariances are made of, summed on the host in float64, inside `jax.jit` in float32.

    Args:
        graph: see `input_roots`.
        apply: see `input_roots`.
        variables: see `input_roots`.
        batches: see `input_roots`.
        forms: see `input_roots`.
        mask: `mask(inputs) -> [examples, length]` of a batch of sequences, nonzero where a
            position is no padding: dots of `[examples, length, ...]`, or of that with both axes in
            one, leave out the other rows. None takes all.
        axis_name: over which each batch is split; see `jaxcompress.per_device`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.ones((1, 3))}, jnp.array([[3.0], [1.0]])
        >>> graph = trace(apply, variables, x)
        >>> input_moments(graph, apply, variables, [x], {"a": "dense"})["a"].tolist()
        [[[5.0, 2.0], [2.0, 1.0]]]
    """
    check_sites(graph, forms)
    require_finite("variables", variables, "train or load them again")
    means = compiled(
        lambda tree, inputs, away: average(
            _batch_means(graph, apply, tree, inputs, forms, away, mask), axis_name
        )
    )
    away: dict[str, np.ndarray] = {}
    total, count = dict[str, np.ndarray](), 0
    for inputs in batches:
        batch_moments = means(variables, inputs, away)
        if not count:
            away = far_means({path: per_row(m) for path, m in batch_moments.items()})
            batch_moments = means(variables, inputs, away) if away else batch_moments
        for path, mean in batch_moments.items():
            total[path] = total.get(path, 0.0) + exact(mean)
        count += 1
    if not count:
        raise ValueError("a covariance needs data, but there is no batch; pass at least one")
    require_finite("input covariances", total, "look for NaN in the batches")
    moments = {path: per_row(sums) for path, sums in total.items()}
    return {path: moved_back(moment, away.get(path)) for path, moment in moments.items()}


def covariances_of(moments: Mapping[str, Array], centred: bool = False) -> dict[str, np.ndarray]:
    """Return E[x x^T] by path, or, centred, that less E[x] E[x]^T.

    Args:
        moments: of `input_moments`.
        centred: see `input_covariances`.

    Example:
        >>> moments = {"a": np.array([[[5.0, 2.0], [2.0, 1.0]]])}
        >>> covariances_of(moments, centred=True)["a"].tolist()
        [[[1.0]]]
    """
    covariances = {}
    for path, moment in moments.items():
        lost = moment[..., :-1, -1:] @ moment[..., -1:, :-1] if centred else 0.0
        covariances[path] = moment[..., :-1, :-1] - lost
    return covariances


def _batch_means(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    inputs: PyTree,
    forms: Mapping[str, str],
    away: Mapping[str, Array],
    mask: There | None,
) -> dict[str, Array]:
    """Return E[(x - a, 1) (x - a, 1)^T] of one batch; a is 0 where nothing is said of a site.

    With a mask, the sum over the rows that count, divided by the number of all rows.
    """
    products: dict[str, list[Any]] = {path: [] for path in forms}
    there = None if mask is None else mask(inputs)

    def look(path: str, node: Node, arrays: Sequence[Array], position: int) -> None:
        rows = extended_rows(graph, node, arrays, position, path, forms[path], there)
        # Rows that do not count are zero, the 1 at their end too, and stay so.
        rows = rows - away[path] * rows[..., -1:] if path in away else rows
        product = jnp.einsum("ngr,ngs->grs", rows, rows, precision="highest")
        products[path].append(product / len(rows))

    observe(apply, variables, inputs, forms, look)
    return {path: over_uses(graph, path, means).mean(0) for path, means in products.items()}
