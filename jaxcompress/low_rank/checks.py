"""Checks of what callers say about sites, all offenders named at once."""

from __future__ import annotations

from collections.abc import Mapping

from jaxcompress.annotations import Json
from jaxcompress.graph import Graph

__all__ = ["check_sites"]


def check_sites(graph: Graph, named: Mapping[str, Json]) -> None:
    """Raise unless every name is a site whose kernel may be replaced.

    Raises:
        ValueError: if a site does not exist or its kernel is used in other ways too.
    """
    unknown = [path for path in named if path not in graph.sites]
    if unknown:
        raise ValueError(
            f"ranks and forms name sites of the graph, but {unknown} are none; its sites are "
            f"{', '.join(list(graph.sites)[:8]) or 'none'}"
        )
    refused = [
        f"{path}: read by {site.other_uses} other operations"
        if (site := graph.sites[path]).other_uses
        else f"{path}: batched, of unequal uses, or inside a custom derivative"
        for path in named
        if graph.sites[path].other_uses or not graph.sites[path].forms
    ]
    if refused:
        raise ValueError(
            f"a factorized kernel is only contracted, always alike, but {'; '.join(refused)}; "
            "leave these sites alone (rank None)"
        )
