"""The table that `print(graph)` shows: groups, sites, and what is frozen and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jaxcompress.graph.carried import Carried
from jaxcompress.graph.cost import Cost
from jaxcompress.graph.frozen import Frozen
from jaxcompress.graph.groups import Group

__all__ = ["show", "show_derived", "summary"]


def show(
    groups: Mapping[str, Group],
    cost: Cost,
    sites: int,
    frozen: Sequence[Frozen],
    unread: Sequence[str],
    carried: Sequence[Carried],
) -> str:
    """Return a table of a graph's groups and of what is frozen and why.

    Args:
        groups: by name, in the order of `cost`.
        cost: of the function at any widths.
        sites: how many convs and dots have a leaf kernel.
        frozen: what cannot be removed.
        unread: leaves that no traced function reads.
        carried: where groups lie on inputs that outputs replace.
    """
    head = f"{summary(groups, cost, sites)} per example (multiply-accumulates x 2)"
    return "\n".join(
        [head, "", *_groups(groups, cost), *_frozen(frozen), *_unread(unread), *_carried(carried)]
    )


def show_derived(lines: Sequence[str]) -> str:
    """Return words on kernels that are no sites yet; empty where there are none.

    Example:
        >>> print(show_derived(["model.py:7 (dense)"]))
        <BLANKLINE>
        computed from variables alone, no sites until jc.fold stores them:
          model.py:7 (dense)
    """
    if not lines:
        return ""
    more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
    head = "computed from variables alone, no sites until jc.fold stores them:"
    return "\n".join(["", head, *(f"  {line}" for line in lines[:8]), *more])


def summary(groups: Mapping[str, Group], cost: Cost, sites: int) -> str:
    """Return one line on a graph."""
    return (
        f"{len(groups)} groups of channels, {sites} linear sites, "
        f"{int(cost.params(cost.dense)):,} parameters, {float(cost.flops(cost.dense)):,.0f} FLOPs"
    )


def _groups(groups: Mapping[str, Group], cost: Cost) -> list[str]:
    width = max((len(name) for name in groups), default=5)
    lines = [
        f"{'group':{width}}  width  one channel costs          touches",
        f"{'-' * width}  -----  -------------------------  -------",
    ]
    for position, (name, group) in enumerate(groups.items()):
        fewer = np.array(cost.dense)
        fewer[position] -= 1
        flops = float(cost.flops(cost.dense)) - float(cost.flops(fewer))
        parameters = int(cost.params(cost.dense)) - int(cost.params(fewer))
        kernels = sum(member.role != "other" for member in group.members)
        others = len(group.members) - kernels
        lines.append(
            f"{name:{width}}  {group.width:5}  {flops:10,.0f} F {parameters:10,} P  "
            f"{kernels} kernel axes, {others} others, {len(group.consumers)} consumers"
            f"{', steps of a scan' if group.is_depth else ''}"
        )
    return lines


def _frozen(frozen: Sequence[Frozen]) -> list[str]:
    """Summarise the frozen axes by reason; the full list is `graph.frozen`."""
    reasons = Counter((entry.reason, entry.source) for entry in frozen)
    if not reasons:
        return []
    example = {(e.reason, e.source): f"{e.path}[{e.axis}]" for e in reversed(frozen)}
    lines = ["", "frozen, because ..."]
    for (reason, source), count in reasons.most_common():
        where = f", {source}" if source else ""
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"  {reason}: {example[reason, source]}{more}{where}")
    return lines


def _unread(unread: Sequence[str]) -> list[str]:
    """Name the leaves that nothing reads, which no group can hold."""
    if not unread:
        return []
    listed = ", ".join(unread[:8])
    more = f" and {len(unread) - 8} more" if len(unread) > 8 else ""
    return ["", f"read by no traced function (pass those that do as also=): {listed}{more}"]


def _carried(carried: Sequence[Carried]) -> list[str]:
    """Name the inputs that shrink with the groups."""
    if not carried:
        return []
    listed = ", ".join(f"input {c.path}[{c.axis}] with {c.group}" for c in carried[:8])
    more = f" and {len(carried) - 8} more" if len(carried) > 8 else ""
    return ["", f"handed in and out (see shrink_inputs): {listed}{more}"]
