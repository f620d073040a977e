"""Checks of a selection: what is known before channels are scored, and the scores themselves."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.compression.checks import check_widths
from jaxcompress.graph import Cost, Graph
from jaxcompress.graph.budget import Budget
from jaxcompress.prune.limits import Limits, group_limits
from jaxcompress.prune.steps import channel_steps
from jaxcompress.prune.units import make_units

__all__ = ["check_scores", "check_selection", "check_time"]


def check_selection(
    graph: Graph,
    names: Collection[str],
    budget: Budget,
    *,
    multiple_of: int,
    min_width: int,
    protect: Sequence[str],
    min_share: float | Mapping[str, float],
    max_share: float | Mapping[str, float],
) -> tuple[Budget, dict[str, Limits]]:
    """Raise unless some widths of the named groups fit the budget, before they are scored.

    Returns:
        The budget in absolute numbers, and the limits of the named groups.
    """
    _check_types(budget, protect)
    protected, absolute = _protected(graph, protect), budget.of(graph)
    limits = group_limits(
        graph.cost,
        names,
        multiple_of=channel_steps(graph, multiple_of),
        min_width=min_width,
        protected=protected,
        min_share=min_share,
        max_share=max_share,
        kinds=tuple(absolute.ceilings()),
    )
    _check_reachable(graph, absolute, limits)
    return absolute, limits


def _check_types(budget: Any, protect: Any) -> None:
    if not isinstance(budget, Budget):
        raise TypeError(f"the budget must be a Budget, but is {budget!r}; say Budget(flops=0.5)")
    if isinstance(protect, str):
        raise TypeError(
            f"protect must be a list of patterns, but is {protect!r}; say [{protect!r}]"
        )


def check_scores(graph: Graph, scores: Mapping[str, Array]) -> None:
    """Raise if a group is unknown, a width wrong, or a score NaN."""
    check_widths(graph, scores, "scores", per_example=False)
    unreal = [name for name, score in scores.items() if np.iscomplexobj(score)]
    if unreal:
        raise TypeError(f"scores order channels, but those of {unreal} are complex; take abs")
    wrong = [f"{n}: {int(np.isnan(s).sum())}" for n, s in scores.items() if np.isnan(s).any()]
    if wrong:
        raise ValueError(
            "scores order channels, but NaN has no order; NaN entries per group: "
            f"{', '.join(wrong)}; look for NaN in the variables or the loss"
        )


def _protected(graph: Graph, patterns: Sequence[str]) -> list[str]:
    """Return the groups that touch a leaf whose path fits a pattern."""
    touching = {
        pattern: [
            name
            for name, group in graph.groups.items()
            if any(fnmatch.fnmatchcase(member.path, pattern) for member in group.members)
        ]
        for pattern in patterns
    }
    missed = [pattern for pattern, names in touching.items() if not names]
    if missed:
        example = next((m.path for g in graph.groups.values() for m in g.members), "")
        raise ValueError(
            f"a pattern of protect= matches a leaf of some group, but {missed} match none; "
            f"patterns are compared with whole paths such as {example!r}"
        )
    return sorted({name for names in touching.values() for name in names})


def _check_reachable(graph: Graph, budget: Budget, limits: Mapping[str, Limits]) -> None:
    units = make_units(graph.cost, limits)
    smallest = np.array(units.base)
    np.add.at(smallest, units.group[units.forced], units.size[units.forced])
    for kind, limit in budget.ceilings().items():
        if kind == "latency":
            # Time may fall as channels come: the smallest widths need not be the fastest.
            continue
        least = float(graph.cost.of(kind, smallest))
        dense = float(graph.cost.of(kind))
        if least > limit:
            raise ValueError(
                f"the budget asks for {kind} <= {limit:,.0f}, but the smallest reachable is "
                f"{least:,.0f}, {least / dense:.3f} of {dense:,.0f}: frozen axes, protected or "
                "unscored groups, minimum widths and shares stay; raise the budget (a fraction up "
                "to 1, or a larger absolute number) or free more groups"
            )


def check_time(cost: Cost, budget: Budget, keep: Mapping[str, np.ndarray]) -> None:
    """Raise if what was chosen under a ceiling of time takes longer: nothing that was tried fits.

    Raises:
        ValueError: naming the ceiling and what was reached.
    """
    limit = budget.ceilings().get("latency")
    if limit is None:
        return
    reached, dense = float(cost.of("latency", cost.widths(keep))), float(cost.of("latency"))
    if reached > limit:
        raise ValueError(
            f"the budget asks for latency <= {limit:,.4g} microseconds, but no number of the best "
            f"scored channels takes as little: the smallest reachable is {reached:,.4g}, "
            f"{reached / dense:.3f} of {dense:,.4g}; raise the budget, free more groups, or make "
            "the table at more widths"
        )
