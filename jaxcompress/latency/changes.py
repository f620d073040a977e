"""What a keep saves of FLOPs and of time, and a warning where the first is not the second."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import real, require
from jaxcompress.graph import Graph
from jaxcompress.latency.attaching import check_table
from jaxcompress.latency.table import LatencyTable

__all__ = ["LatencyChanges", "SiteChange", "latency_changes"]


class SiteChange(NamedTuple):
    """One operation before and after.

    Attributes:
        name: as in the table.
        widths: before.
        kept: after.
        flops: the part that is left.
        seconds: the part that is left.
    """

    name: str
    widths: tuple[int, ...]
    kept: tuple[int, ...]
    flops: float
    seconds: float


class LatencyChanges(NamedTuple):
    """What a keep leaves of a network; `print` shows it.

    Attributes:
        flops: the part of the FLOPs that is left.
        seconds: the part of the latency that is left, of the widths as they are: those between
            two of the grid cost what the larger does.
        sites: every operation that shrinks.
        idle: those of them whose FLOPs fall while their time does not.
    """

    flops: float
    seconds: float
    sites: tuple[SiteChange, ...]
    idle: tuple[SiteChange, ...]

    @property
    def warning(self) -> str:
        """What is to be said, or nothing."""
        if self.flops < 1 <= self.seconds:
            return (
                f"{self.flops:.0%} of the FLOPs are left, but {self.seconds:.0%} of the latency: "
                "this is slower than the whole network; select by Budget(latency=) or multiple_of="
            )
        if self.idle:
            names = ", ".join(site.name for site in self.idle[:4])
            more = f" and {len(self.idle) - 4} more" if len(self.idle) > 4 else ""
            return f"FLOPs fall and latency does not in {names}{more}"
        return ""

    def __str__(self) -> str:
        lines = [f"{self.flops:.1%} of the FLOPs and {self.seconds:.1%} of the latency are left"]
        lines += [
            f"  {site.flops:6.1%} FLOPs {site.seconds:6.1%} time  {site.name}: "
            f"{' x '.join(map(str, site.widths))} -> {' x '.join(map(str, site.kept))}"
            for site in self.sites
        ]
        return "\n".join([*lines, *([f"warning: {self.warning}"] if self.warning else [])])


def latency_changes(
    graph: Graph, table: LatencyTable, keep: Mapping[str, Array], *, tolerance: float = 0.02
) -> LatencyChanges:
    """Compare what a keep leaves of FLOPs and of latency; warn where FLOPs fall and time does not.

    Args:
        graph: whose groups are kept.
        table: of the same network.
        keep: `{group: bool[width]}`; groups that it does not name stay whole.
        tolerance: falls of time that are none.

    Raises:
        ValueError: if the table is of another graph.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.latency import Grid
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> grid = Grid(((2, 4),), np.array([1e-6, 4e-6]))
        >>> table = LatencyTable("toy", "by hand", "float32", 1, {"a": grid, "b": grid})
        >>> print(latency_changes(graph, table, {"a[1]": np.arange(4) < 2}))
        50.0% of the FLOPs and 25.0% of the latency are left
           50.0% FLOPs  25.0% time  a: 4 -> 2
           50.0% FLOPs  25.0% time  b: 4 -> 2
    """
    require(tolerance=real(tolerance, least=0, below=1))
    check_table(graph, table)
    cost = graph.cost
    widths = [np.asarray(cost.dense), cost.widths(keep)]
    counts = [cost.multiplicity @ width + cost.fixed for width in widths]
    totals, sites = np.zeros(2), []
    for one in graph.operations:
        sizes = [tuple(int(round(count[place])) for place in one.axes) for count in counts]
        often = [one.times * np.prod([count[place] for place in one.repeats]) for count in counts]
        pair = zip(often, sizes, strict=True)
        seconds = np.asarray([n * table.sites[one.name].at(size) for n, size in pair])
        totals += seconds
        if sizes[0] != sizes[1]:
            parts = float(np.prod(np.divide(sizes[1], sizes[0]))), float(seconds[1] / seconds[0])
            sites.append(SiteChange(one.name, sizes[0], sizes[1], *parts))
    before, after = (float(cost.of("flops", width)) for width in widths)
    idle = tuple(site for site in sites if site.seconds >= 1 - tolerance)
    made = LatencyChanges(after / before, float(totals[1] / totals[0]), tuple(sites), idle)
    if made.warning:
        warnings.warn(made.warning, stacklevel=2)
    return made
