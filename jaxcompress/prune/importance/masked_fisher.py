"""Masked Fisher importance: squared gate gradients of single examples, at random masks.

The mean gradient of a converged network is near zero, so only the squares of single examples carry
signal; and a channel matters as much as the loss depends on it once others are gone, so gradients
are taken where random channels are removed already, not only at the whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.backend import fast_if_large, is_alone
from jaxcompress.batches import are_stacked, one_by_one
from jaxcompress.compiled import jit_of, stacked
from jaxcompress.compression.checks import check_groups
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.per_device import AxisName, average, per_device, slope
from jaxcompress.prune.gating import gated
from jaxcompress.prune.importance.checks import check_gradients, check_scalar
from jaxcompress.prune.importance.rounds import map_rounds
from jaxcompress.prune.scores import Scores

__all__ = ["fisher", "random_masks"]


def random_masks(
    graph: Graph,
    key: jax.Array,
    *,
    keep: tuple[float, float] = (0.5, 1.0),
    keep_of: Mapping[str, tuple[float, float]] | None = None,
    groups: Collection[str] | None = None,
) -> dict[str, jax.Array]:
    """Draw one random mask: for each group p ~ U(low, high), then each channel stays with p.

    The channel with the smallest draw always stays, so that no group is removed as a whole.

    Args:
        graph: whose groups are masked.
        key: of this mask.
        keep: (low, high) of p, equal for a fixed p.
        keep_of: other ranges of single groups, e.g. of `streams(graph)`.
        groups: which to mask, default all.

    Returns:
        Gates `{group: float[width]}` of 0 and 1.

    Raises:
        ValueError: if a group is unknown, or a range is not within (0, 1].

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> random_masks(graph, jax.random.key(0), keep=(1, 1))["a[1]"].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    return _draw(graph, key, _ranges(graph, keep, keep_of, groups))


def _ranges(
    graph: Graph,
    keep: tuple[float, float],
    keep_of: Mapping[str, tuple[float, float]] | None,
    groups: Collection[str] | None,
) -> dict[str, tuple[Any, Any]]:
    """Return (low, high) of every group that is masked."""
    names = list(graph.groups) if groups is None else list(groups)
    check_groups(graph, dict.fromkeys([*names, *(keep_of or {})]), "a mask")
    ranges = {name: (keep_of or {}).get(name, keep) for name in names}
    wrong = {name: pair for name, pair in ranges.items() if not 0 < pair[0] <= pair[1] <= 1}
    if wrong:
        raise ValueError(
            "a keep probability is drawn from (low, high) with 0 < low <= high <= 1, but these are "
            f"not: {wrong}"
        )
    return ranges


def _draw(
    graph: Graph, key: jax.Array, ranges: Mapping[str, tuple[Any, Any]]
) -> dict[str, jax.Array]:
    # Keys go by a group's place in the graph, whatever else is masked.
    place = {name: number for number, name in enumerate(graph.groups)}
    masks = {}
    for name, (low, high) in ranges.items():
        first, second = jax.random.split(jax.random.fold_in(key, place[name]))
        probability = low + (high - low) * jax.random.uniform(first)
        draws = jax.random.uniform(second, (graph.groups[name].width,))
        stays = (draws < probability) | (draws == draws.min())
        masks[name] = stays.astype(jnp.result_type(float))
    return masks


def fisher(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    batches: Any,
    *,
    key: jax.Array,
    keep: tuple[float, float] = (0.5, 1.0),
    keep_of: Mapping[str, tuple[float, float]] | None = None,
    groups: Collection[str] | None = None,
    gates: Mapping[str, Array] | None = None,
    axis_name: AxisName = None,
) -> Scores:
    """Score a channel by the mean squared gate gradient of single examples at random masks.

    F_c = mean over rounds r, examples b of (dL_b / dg_bc at g = m_r)^2, m_r a fresh random mask
    for the r-th batch (`random_masks`) and g_bc the gate of channel c for example b alone. Removed
    channels get gradients too: how much one matters where others are gone is what is asked.
    Channels of different groups compare well after `prune.per_cost(..., power=1.5)`.

    Ours: Fisher pruning (Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher
    pruning", eq. 10) takes the gradients at the whole network, keep=(1, 1), and halves them. Where
    BatchNorm normalises by batch statistics (in our trials the better mode), examples interact and
    dL_b stands for the derivative of the batch's summed loss.

    Args:
        graph: of a function of the variables.
        loss: pass the same function again and nothing is compiled twice.
            `loss(variables, batch) -> scalar`, the mean over the examples of the batch, in
            evaluation or training mode.
        variables: pytree of arrays.
        batches: one for each round: an iterable of pytrees of arrays `[batch, ...]`, or one pytree
            of arrays `[rounds, batch, ...]`.
        key: of the masks.
        keep: range of the keep probability of a group, drawn in each round.
        keep_of: other ranges of single groups; residual `streams` bear less, e.g. (0.75, 1).
        groups: which to score and mask, default all whose gates have a gradient, `graph.graded`.
        gates: `{group: float[width]}` that all masks are multiplied by, to score a network of
            which something is removed already; may be traced.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is
            split; see `jaxcompress.per_device`.

    Returns:
        `{group: float[width]}`, not negative; raw gradients, which `select` divides by what a
        channel costs to the power of 1.5.

    Raises:
        ValueError: if a batch is empty, the loss not a scalar, a group unknown, or a range wrong.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> fisher(graph, loss, variables, jnp.ones((2, 5, 3)), key=jax.random.key(0))["a[1]"].shape
        (4,)
    """
    require_finite("variables", variables, "train or load them again")
    first, every = one_by_one("batches", batches)
    check_scalar(loss, variables, first)
    ranges = _ranges(graph, keep, keep_of, graph.graded if groups is None else groups)
    squares_of = jit_of(
        _squares, graph, loss, axis_name=axis_name, fast=is_alone((variables, first))
    )
    step = partial(squares_of, variables, key, ranges, dict(gates or {}))
    if are_stacked(batches):
        numbers = jnp.arange(len(jax.tree.leaves(batches)[0]))
        squares = map_rounds(step, (numbers, batches))
    else:
        squares = stacked([step((jnp.int32(i), batch)) for i, batch in enumerate(every)])
    means = _means(squares)
    check_gradients(means)
    return Scores(means, "fisher", "raw gradient", power=1.5)


@jax.jit
def _means(squares: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: square.mean(0) for name, square in squares.items()}


def _squares(
    graph: Graph, loss: Callable[[PyTree, Batch], jax.Array], axis_name: AxisName, fast: bool
) -> Function:
    """Make the mean squared gate gradients of one batch at the mask of its number."""
    gated_loss = gated(graph, loss)

    def squares(
        variables: PyTree,
        key: jax.Array,
        ranges: dict[str, tuple[Any, Any]],
        gates: dict[str, Array],
        inputs: tuple[Any, Any],
    ) -> dict[str, jax.Array]:
        number, batch = inputs
        examples = len(jax.tree.leaves(batch)[0])
        masks = _draw(graph, jax.random.fold_in(key, number), ranges)
        at = {**gates, **{name: mask * gates.get(name, 1.0) for name, mask in masks.items()}}
        at = {name: jnp.broadcast_to(gate, (examples, len(gate))) for name, gate in at.items()}
        # The gates of an example lie with it on one device: there is nothing to average yet.
        local = slope(lambda at, *rest: (gated_loss(rest[0], at, rest[1]), None))
        _, gradient = local(per_device(at, axis_name), variables, batch)
        means = {name: jnp.square(examples * gradient[name]).mean(0) for name in masks}
        return average(means, axis_name)

    return fast_if_large(squares) if fast else squares
