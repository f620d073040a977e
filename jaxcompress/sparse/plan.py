"""The plan of `sparse_optimizer`: when, how many and which weights go, checked at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.sparse.counts import Scope, kept_counts, least_kept
from jaxcompress.sparse.masks import prunable
from jaxcompress.sparse.oriented import Oriented, check_pattern, oriented
from jaxcompress.sparse.patterns import Block, Pattern
from jaxcompress.sparse.regrow import Regrow
from jaxcompress.sparse.schedule import Schedule
from jaxcompress.sparse.scores import Score

__all__ = ["Plan", "check_plan", "tables", "turned_of"]


class Plan(NamedTuple):
    """The arguments of `sparse_optimizer` that say what is removed."""

    schedule: Schedule
    score: Score
    scope: Scope
    pattern: Pattern
    regrow: Regrow | None
    protect: tuple[str, ...]
    key: jax.Array
    graph: Graph | None
    include: tuple[str, ...]


def check_plan(plan: Plan) -> None:
    """Raise if regrowth is asked for with a scope or pattern that it does not know.

    Raises:
        ValueError: saying which.
    """
    if plan.regrow and (plan.scope == "global" or not isinstance(plan.pattern, Block)):
        raise ValueError(
            "regrowth keeps the count of each leaf, so it takes scope 'uniform' or 'erk' and a "
            f"Block pattern, but scope is {plan.scope!r} and the pattern {plan.pattern}"
        )


def turned_of(leaves: Mapping[str, Array], plan: Plan) -> dict[str, Oriented]:
    """Return the leaves to prune and how they lie, checked against the plan.

    Raises:
        ValueError: if the pattern does not divide a leaf or cannot know its inputs, the schedule
            does not end at the pattern's sparsity, a leaf is not the graph's, or a path's pattern
            matches nothing; the schedule leaves fewer weights than outputs that keep one; or a
            leaf holds NaN or infinity.
    """
    paths = prunable(leaves, plan.protect, graph=plan.graph, include=plan.include)
    turned = oriented(leaves, paths, plan.pattern, plan.graph)
    check_pattern(plan.pattern, {path: one.turned for path, one in turned.items()})
    remedy = "train or load them again, or exempt these leaves by protect="
    require_finite("the parameters", {path: leaves[path] for path in paths}, remedy)
    pattern, final = plan.pattern, plan.schedule.levels[-1]
    if not isinstance(pattern, Block) and round((1 - final) * pattern.m) != pattern.n:
        raise ValueError(
            f"{pattern} is a sparsity of {1 - pattern.n / pattern.m}, but the schedule ends at "
            f"{final}; let it end there"
        )
    tables(plan, turned)
    return turned


def tables(plan: Plan, turned: Mapping[str, Oriented]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return units kept, and of these regrown, `int32[events, pools]`."""
    levels, shapes = plan.schedule.levels, {path: one.shape for path, one in turned.items()}
    least = least_kept(turned, plan.scope, plan.pattern)
    # The sparsest first, so that an error tells of it.
    ordered = sorted(set(levels), reverse=True)
    known = {s: kept_counts(shapes, s, plan.scope, plan.pattern, least) for s in ordered}
    kept = np.array([known[level] for level in levels], np.int32)
    if plan.regrow is None:
        return kept, None
    units = [plan.pattern.units(shape) for shape in shapes.values()]
    dropped = [
        [plan.regrow.dropped(k, u, e, len(levels)) for k, u in zip(row, units, strict=True)]
        for e, row in enumerate(kept.tolist())
    ]
    return kept, np.array(dropped, np.int32)
