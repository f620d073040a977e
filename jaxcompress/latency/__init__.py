"""Time as a cost: FLOPs are not time.

    table = jc.latency.measured_latency(jc.trace(apply, variables, images))  # on this device
    print(table, jc.latency.suggested_multiple(table))
    graph = jc.latency.with_latency(graph, table)
    keep = jc.select(graph, scores, jc.Budget(latency=0.5))
    print(jc.latency.latency_changes(graph, table, keep))  # warns of FLOPs that save no time

A table holds what each conv and dot takes alone at a grid of widths, measured or estimated by a
compiler for a device that is not there (`latency_table`). It is a record that survives JSON.
"""

from __future__ import annotations

from jaxcompress.latency.attaching import with_latency
from jaxcompress.latency.changes import LatencyChanges, latency_changes
from jaxcompress.latency.grids import width_grid
from jaxcompress.latency.measuring import latency_table, measured_latency, measured_seconds
from jaxcompress.latency.multiples import suggested_multiple
from jaxcompress.latency.table import Grid, LatencyTable, load_table, save_table

__all__ = [
    "Grid",
    "LatencyChanges",
    "LatencyTable",
    "latency_changes",
    "latency_table",
    "load_table",
    "measured_latency",
    "measured_seconds",
    "save_table",
    "suggested_multiple",
    "width_grid",
    "with_latency",
]
