"""Kernels beside the second moments of what they are multiplied with, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.graph.record import Graph

__all__ = ["described_by_inputs", "form_by_inputs", "matrices_beside"]


def described_by_inputs(graph: Graph, path: str) -> dict[str, Any]:
    """Describe a site whose matrix has one row per input, or per input and place of the window."""
    return graph.sites[path].described(_form(graph, path))


def form_by_inputs(graph: Graph, path: str) -> str | None:
    """Return the form of that description; None where a kernel is no site, or used twice."""
    site = graph.sites.get(path)
    if site is None or site.other_uses:
        return None
    wanted = _form(graph, path)
    return wanted if wanted in {form.name for form in site.forms} else None


def _form(graph: Graph, path: str) -> str:
    return "channel" if "window" in graph.sites[path].layout else "dense"


def matrices_beside(
    graph: Graph, leaves: Mapping[str, Array], covariances: Mapping[str, Array]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the descriptions and matrices of the kernels that have a covariance.

    Args:
        graph: that has the sites.
        leaves: arrays by path.
        covariances: `E[x x^T]` by path of the kernel, `[scanned..., groups, rows, rows]`.

    Raises:
        ValueError: if a path is no site, or a covariance does not fit; all offenders are named.
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
        elif not prod(matrix.shape):
            wrong.append(f"{path}: no entries")
    if wrong:
        raise ValueError(
            "covariances are [scanned..., groups, rows, rows], of the form 'channel' for "
            f"convolutions, 'dense' for dots, but {'; '.join(wrong)}"
        )
    return sites, matrices
