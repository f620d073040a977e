"""Selection: which channels to keep under a budget, given their scores.

`threshold` is the one kernel, traced and vmappable; `select` is its host wrapper with checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.graph import Cost, Graph
from jaxcompress.graph.budget import Budget, Ceilings
from jaxcompress.prune.comparable import comparable_scores
from jaxcompress.prune.limits import Limits, group_limits, steps_problem
from jaxcompress.prune.selection_checks import check_scores, check_selection
from jaxcompress.prune.units import Units, make_units, order_units, rank_channels, unit_scores

__all__ = ["select", "threshold"]


def threshold(
    cost: Cost,
    scores: Mapping[str, Array],
    budget: Ceilings,
    *,
    multiple_of: int | Mapping[str, int] = 1,
    min_width: int = 1,
    protected: Sequence[str] = (),
    fill: bool = True,
) -> dict[str, Array]:
    """Keep the best-scored channels that fit an absolute budget, inside jit.

    Units (see `jaxcompress.prune.units`) are added in order of falling score: by bisection the
    longest prefix that fits, then, with `fill`, every later one that still fits. Equal scores are
    spread over groups, so that all keep the same part, and go by index within a group.

    Args:
        cost: of the graph.
        scores: `{group: float[width]}`; groups without scores stay whole. Raw `Scores` are made
            comparable, a bare dict is taken as is (see `comparable_scores`).
        budget: absolute (see `Budget.of`); its ceilings may be traced.
        multiple_of: widths are multiples of this many channels, or full; `{group: channels}` where
            groups differ, such as `channel_steps(graph, 8)`, which `select` takes.
        min_width: fewest channels of a group; with 0, those in `graph.optional` may go as a whole.
        protected: groups that stay whole.
        fill: without it, keeps are nested as the budget falls.

    Returns:
        Gates `{group: float[width]}` of 0 and 1; of NaN, all of a group whose scores hold NaN.
        Where even the smallest widths do not fit, these; `select` raises instead. FLOPs are
        compared in the default float type: exactly under `jax.enable_x64`, otherwise to float32
        rounding.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> scores = {"a[1]": jnp.array([1.0, 4.0, 2.0, 3.0])}
        >>> threshold(graph.cost, scores, Budget(flops=0.5).of(graph))["a[1]"].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    require(multiple_of=steps_problem(multiple_of), min_width=integer(min_width, least=0))
    scores = comparable_scores(cost, scores, tuple(budget.ceilings()))
    limits = group_limits(cost, list(scores), multiple_of, min_width, protected)
    return _gates(cost, scores, budget, limits, fill)


def _gates(
    cost: Cost,
    scores: Mapping[str, Array],
    budget: Ceilings,
    limits: Mapping[str, Limits],
    fill: bool,
) -> dict[str, Array]:
    units = make_units(cost, limits)
    if not len(units.size):
        return {name: jnp.ones(len(score)) for name, score in scores.items()}
    levels = _levels(cost, units, unit_scores(scores, cost, limits), budget, fill)
    gates = {}
    for name, score in scores.items():
        width = levels[cost.names.index(name)] * limits[name].step
        ranks = rank_channels(jnp.asarray(score))
        gate = (ranks < width).astype(jnp.result_type(float))
        # NaN has no order; inside jit, where nothing can be raised, it must not look like one.
        gates[name] = jnp.where(jnp.isnan(score).any(), jnp.nan, gate)
    return gates


def _levels(cost: Cost, units: Units, scores: Array, budget: Ceilings, fill: bool) -> Array:
    """Return `int[groups]`, how many units of each group are kept."""
    order = order_units(units, scores)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)))
    size, group = jnp.asarray(units.size), jnp.asarray(units.group)

    def widths(count: Array) -> Array:
        kept = jnp.where(place < count, size, 0)
        return jnp.asarray(units.base).at[group].add(kept)

    def bisect(_: int, bounds: tuple[Any, Any]) -> tuple[PyTree, PyTree]:
        low, high = bounds
        middle = (low + high + 1) // 2
        fit = _fits(cost, widths(middle), budget)
        return jnp.where(fit, middle, low), jnp.where(fit, high, middle - 1)

    forced = int(units.forced.sum())
    rounds = int(np.ceil(np.log2(len(order) + 1))) + 1
    count, _ = lax.fori_loop(0, rounds, bisect, (jnp.asarray(forced), jnp.asarray(len(order))))
    kept_units = jnp.zeros(len(cost.names), order.dtype).at[group].add(place < count)
    if not fill:
        return kept_units

    def add(state: tuple[Any, Any], unit: Any) -> tuple[tuple[Any, Any], None]:
        levels, current = state
        wider = current.at[group[unit]].add(size[unit])
        is_next = levels[group[unit]] == jnp.asarray(units.level)[unit]
        accept = is_next & (place[unit] >= count) & _fits(cost, wider, budget)
        levels = levels.at[group[unit]].add(accept)
        return (levels, jnp.where(accept, wider, current)), None

    (levels, _), _ = lax.scan(add, (kept_units, widths(count)), order)
    return levels


def _fits(cost: Cost, widths: Array, budget: Ceilings) -> Array:
    widths = widths.astype(jnp.result_type(float))
    checks = [cost.of(kind, widths) <= limit for kind, limit in budget.ceilings().items()]
    return jnp.all(jnp.stack(checks))


def select(
    graph: Graph,
    scores: Mapping[str, Array],
    budget: Budget,
    *,
    multiple_of: int = 1,
    min_width: int = 1,
    protect: Sequence[str] = (),
    fill: bool = True,
) -> dict[str, np.ndarray]:
    """Keep the best-scored channels that fit a budget, on the host, exactly.

    Args:
        graph: whose groups are scored; fractions in the budget are of it.
        scores: `{group: float[width]}`, higher is kept; +inf goes before and -inf after all
            others, equal ones are spread over groups. Groups without scores stay whole. Raw
            `Scores` are made comparable, a bare dict is taken as is; see `comparable_scores`.
        budget: ceilings that all hold.
        multiple_of: axes of kernels are multiples of this, or full; 8 or 128 suit hardware lanes.
            Where a channel is a head of 16 lanes, any number of heads is; see `channel_steps`.
        min_width: fewest channels of a group; with 0, those in `graph.optional` may go as a whole.
        protect: patterns (`*`, `?`) of leaf paths; groups that touch one stay whole.
        fill: after the first channel that does not fit, go on with cheaper ones. Without it,
            keeps are nested as the budget falls.

    Returns:
        `{group: bool[width]}`; no further unit of any group would fit.

    Raises:
        ValueError: if a group is unknown, a width wrong, a score NaN, a pattern matches nothing,
            or the budget is below the smallest reachable cost.
        TypeError: if the budget is a bare number, or `protect` one string.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> select(graph, {"a[1]": np.array([1.0, 4.0, 2.0, 3.0])}, Budget(params=15))["a[1]"]
        array([False,  True,  True,  True])
    """
    require(multiple_of=integer(multiple_of), min_width=integer(min_width, least=0))
    check_scores(graph, scores)
    absolute, limits = check_selection(
        graph, scores, budget, multiple_of=multiple_of, min_width=min_width, protect=protect
    )
    # Before the conversion: as if the caller had made them comparable.
    scores = comparable_scores(graph.cost, scores, tuple(budget.ceilings()))
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        gates = jax.jit(lambda arrays: _gates(graph.cost, arrays, absolute, limits, fill))(
            {name: np.asarray(score, np.float64) for name, score in scores.items()}
        )
        return {name: np.asarray(gate) > 0.5 for name, gate in gates.items()}
