"""Kernels beside the second moments of what they are multiplied with, row by row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.graph.record import Graph

__all__ = ["described_by_inputs", "forms_by_inputs", "matrices_beside"]


def described_by_inputs(graph: Graph, path: str) -> dict[str, Any]:
    """Describe a site whose matrix has one row per input, or per input and place of the window."""
    return graph.sites[path].described(_form(graph, path))


def forms_by_inputs(graph: Graph, paths: Collection[str]) -> dict[str, str]:
    """Return the forms of those descriptions, without kernels that are no sites, or used twice."""
    wanted = {path: _form(graph, path) for path in graph.sites if path in paths}
    return {
        path: form
        for path, form in wanted.items()
        if not graph.sites[path].other_uses
        and form in {known.name for known in graph.sites[path].forms}
    }


def _form(graph: Graph, path: str) -> str:
    return "channel" if "window" in graph.sites[path].layout else "dense"


def matrices_beside(
    graph: Graph,
    leaves: Mapping[str, Array],
    covariances: Mapping[str, Array],
    multiple_of: int = 1,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the descriptions and matrices of the kernels that have a covariance.

    Args:
        graph: that has the sites.
        leaves: arrays by path.
        covariances: `E[x x^T]` by path of the kernel, `[scanned..., groups, rows, rows]`.
        multiple_of: what divides the rows.

    Raises:
        ValueError: if a path is no site, a covariance does not fit, or rows are no multiple; all
            offenders are named.
    """
    unknown = sorted(set(covariances) - set(graph.sites))
    if unknown:
        raise ValueError(
            f"covariances belong to sites, but {unknown} are none; sites are {sorted(graph.sites)}"
        )
    sites = {path: described_by_inputs(graph, path) for path in graph.sites if path in covariances}
    matrices = site_matrices({path: leaves[path] for path in sites}, sites)
    wrong = []
    for path, matrix in matrices.items():
        expected = (*matrix.shape[:-1], matrix.shape[-2])
        if np.shape(covariances[path]) != expected:
            wrong.append(f"{path}: {np.shape(covariances[path])}, expected {expected}")
        elif matrix.shape[-2] % multiple_of:
            wrong.append(
                f"{path}: {matrix.shape[-2]} rows do not divide into groups of {multiple_of}"
            )
        elif not prod(matrix.shape):
            wrong.append(f"{path}: no entries")
    if wrong:
        raise ValueError(
            "covariances are [scanned..., groups, rows, rows], of the form 'channel' for "
            f"convolutions, 'dense' for dots, and N of M divides the rows, but {'; '.join(wrong)}"
        )
    return sites, matrices
