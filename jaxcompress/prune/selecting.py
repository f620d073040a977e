"""Selection: which channels to keep under a budget, given their scores.

`threshold` is the one kernel, traced and vmappable; `select` is its host wrapper with checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import each, integer, require
from jaxcompress.compiled import jit_of
from jaxcompress.graph import Cost, Graph
from jaxcompress.graph.budget import AtMost, Budget, Ceilings
from jaxcompress.parallel import host_device
from jaxcompress.prune.comparable import comparable_scores
from jaxcompress.prune.levels import greedy_levels, uniform_levels
from jaxcompress.prune.limits import Limits, group_limits
from jaxcompress.prune.selection_checks import check_scores, check_selection, check_time
from jaxcompress.prune.shares import share_problem
from jaxcompress.prune.units import make_units, rank_channels, unit_scores

__all__ = ["select", "threshold"]


def threshold(
    cost: Cost,
    scores: Mapping[str, Array],
    budget: Ceilings,
    *,
    multiple_of: int | Mapping[str, int] = 1,
    min_width: int = 1,
    protected: Sequence[str] = (),
    min_share: float | Mapping[str, float] = 0.0,
    max_share: float | Mapping[str, float] = 1.0,
    uniform: bool = False,
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
        min_width: fewest channels of a group; with 0, all those in `graph.optional` may go wholly.
        protected: groups that stay whole.
        min_share: see `select`.
        max_share: see `select`.
        uniform: see `select`.
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
    require(
        multiple_of=each(multiple_of, integer),
        min_width=integer(min_width, least=0),
        min_share=share_problem(min_share),
        max_share=share_problem(max_share),
    )
    scores = comparable_scores(cost, scores, tuple(budget.ceilings()))
    limits = group_limits(
        cost,
        list(scores),
        multiple_of=multiple_of,
        min_width=min_width,
        protected=protected,
        min_share=min_share,
        max_share=max_share,
        kinds=tuple(budget.ceilings()),
    )
    return _gates(cost, scores, budget, limits, uniform, fill)


def _gates(
    cost: Cost,
    scores: Mapping[str, Array],
    budget: Ceilings,
    limits: Mapping[str, Limits],
    uniform: bool,
    fill: bool,
) -> dict[str, Array]:
    """Return the gates of comparable scores, without checks."""
    units = make_units(cost, limits)
    if not len(units.size):
        levels = jnp.zeros(len(cost.names), int)
    elif uniform:
        levels = uniform_levels(cost, units, budget)
    else:
        levels = greedy_levels(cost, units, unit_scores(scores, cost, limits), budget, fill)
    gates = {}
    for name, score in scores.items():
        width = jnp.asarray((0, *limits[name].ends))[levels[cost.names.index(name)]]
        ranks = rank_channels(jnp.asarray(score))
        gate = (ranks < width).astype(jnp.result_type(float))
        # NaN has no order; inside jit, where nothing can be raised, it must not look like one.
        gates[name] = jnp.where(jnp.isnan(score).any(), jnp.nan, gate)
    return gates


def _gates_of(
    cost: Cost, limits: tuple[tuple[str, Limits], ...], uniform: bool, fill: bool
) -> Callable[..., dict[str, Array]]:
    """Make `_gates` of scores and ceilings: one program per graph, for all of them."""

    def gates(scores: Mapping[str, Array], ceilings: Mapping[str, Array]) -> dict[str, Array]:
        return _gates(cost, scores, AtMost(ceilings), dict(limits), uniform, fill)

    return gates


def select(
    graph: Graph,
    scores: Mapping[str, Array],
    budget: Budget,
    *,
    multiple_of: int = 1,
    min_width: int = 1,
    protect: Sequence[str] = (),
    min_share: float | Mapping[str, float] = 0.0,
    max_share: float | Mapping[str, float] = 1.0,
    uniform: bool = False,
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
        min_width: fewest channels of a group; with 0, all those in `graph.optional` may go wholly.
        protect: patterns (`*`, `?`) of leaf paths; groups that touch one stay whole.
        min_share: the least part of a group's channels that is kept: a number for all scored
            groups, or `{group: share}`, also by patterns of names, of which all that fit hold.
        max_share: the largest part, likewise; nothing of a group that stays whole is cut by it.
        uniform: keep the same share of all groups, rounded down to steps and up to least widths,
            the largest that fits; scores then only say which channels of a group.
        fill: after the first channel that does not fit, go on with cheaper ones. Without it,
            keeps are nested as the budget falls.

    Returns:
        `{group: bool[width]}`; no further allowed unit of any group would fit, or, `uniform`, no
        larger share.

    Raises:
        ValueError: if a group is unknown, a width wrong, a score NaN, a pattern matches nothing, a
            group has no width between its shares, or the budget is below the smallest reachable
            cost.
        TypeError: if the budget is a bare number, or `protect` one string.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> select(graph, {"a[1]": np.array([1.0, 4.0, 2.0, 3.0])}, Budget(params=15))["a[1]"]
        array([False,  True,  True,  True])
        >>> select(graph, {"a[1]": np.arange(4.0)}, Budget(params=1.0), max_share=0.5)["a[1]"]
        array([False, False,  True,  True])
    """
    require(
        multiple_of=integer(multiple_of),
        min_width=integer(min_width, least=0),
        min_share=share_problem(min_share),
        max_share=share_problem(max_share),
    )
    check_scores(graph, scores)
    absolute, limits = check_selection(
        graph,
        scores,
        budget,
        multiple_of=multiple_of,
        min_width=min_width,
        protect=protect,
        min_share=min_share,
        max_share=max_share,
    )
    # Before the conversion: as if the caller had made them comparable.
    scores = comparable_scores(graph.cost, scores, tuple(budget.ceilings()))
    with jax.enable_x64(True), jax.default_device(host_device()):
        arrays = {name: np.asarray(score, np.float64) for name, score in scores.items()}
        ceilings = {kind: np.float64(limit) for kind, limit in absolute.ceilings().items()}
        settings = {"limits": tuple(limits.items()), "uniform": uniform, "fill": fill}
        gates = jit_of(_gates_of, graph.cost, **settings)(arrays, ceilings)
        keep = {name: np.asarray(gate) > 0.5 for name, gate in gates.items()}
    check_time(graph.cost, absolute, keep)
    return keep
