"""The table that `print(graph)` shows: groups, sites, and what is frozen and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxcompress.graph.record import Graph

__all__ = ["show"]


def show(graph: Graph) -> str:
    """Return a table of a graph's groups and of what is frozen and why."""
    head = (
        f"{len(graph.groups)} groups of channels, {len(graph.sites)} linear sites, "
        f"{graph.params:,} parameters, {graph.flops:,.0f} FLOPs per example "
        "(multiply-accumulates x 2)"
    )
    return "\n".join(
        [head, "", *_groups(graph), *_frozen(graph), *_unread(graph), *_carried(graph)]
    )


def _groups(graph: Graph) -> list[str]:
    width = max((len(name) for name in graph.groups), default=5)
    lines = [
        f"{'group':{width}}  width  one channel costs          touches",
        f"{'-' * width}  -----  -------------------------  -------",
    ]
    for position, (name, group) in enumerate(graph.groups.items()):
        fewer = np.array(graph.cost.dense)
        fewer[position] -= 1
        flops = graph.flops - float(graph.cost.flops(fewer))
        parameters = graph.params - int(graph.cost.params(fewer))
        kernels = sum(member.role != "other" for member in group.members)
        others = len(group.members) - kernels
        lines.append(
            f"{name:{width}}  {group.width:5}  {flops:10,.0f} F {parameters:10,} P  "
            f"{kernels} kernel axes, {others} others, {len(group.consumers)} consumers"
        )
    return lines


def _frozen(graph: Graph) -> list[str]:
    """Summarise the frozen axes by reason; the full list is `graph.frozen`."""
    reasons = Counter((entry.reason, entry.source) for entry in graph.frozen)
    if not reasons:
        return []
    example = {(e.reason, e.source): f"{e.path}[{e.axis}]" for e in reversed(graph.frozen)}
    lines = ["", "frozen, because ..."]
    for (reason, source), count in reasons.most_common():
        where = f", {source}" if source else ""
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"  {reason}: {example[reason, source]}{more}{where}")
    return lines


def _unread(graph: Graph) -> list[str]:
    """Name the leaves that nothing reads, which no group can hold."""
    if not graph.unread:
        return []
    listed = ", ".join(graph.unread[:8])
    more = f" and {len(graph.unread) - 8} more" if len(graph.unread) > 8 else ""
    return ["", f"read by no traced function (pass those that do as also=): {listed}{more}"]


def _carried(graph: Graph) -> list[str]:
    """Name the inputs that shrink with the groups."""
    if not graph.carried:
        return []
    listed = ", ".join(f"input {c.path}[{c.axis}] with {c.group}" for c in graph.carried[:8])
    more = f" and {len(graph.carried) - 8} more" if len(graph.carried) > 8 else ""
    return ["", f"handed in and out (see shrink_inputs): {listed}{more}"]
