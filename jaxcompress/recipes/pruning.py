"""`prune`: from a trained network, some batches and a budget to a smaller network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression import Compression
from jaxcompress.compression.checks import check_groups
from jaxcompress.finite import require_finite
from jaxcompress.graph import Budget, Graph, internal_groups, trace
from jaxcompress.prune import select, shrink
from jaxcompress.prune.importance.checks import check_scalar
from jaxcompress.prune.selection_checks import check_selection
from jaxcompress.prune.shares import share_problem
from jaxcompress.recipes.distances import Distance, check_answers
from jaxcompress.recipes.examples import (
    LIMIT,
    Inputs,
    Mask,
    draw,
    gather,
    inputs_of,
    one_example,
    opened,
)
from jaxcompress.recipes.importances import Importance, Learned
from jaxcompress.recipes.problem import Problem, ask_of

__all__ = ["groups_of", "prune"]


def prune(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch],
    budget: Budget,
    *,
    key: jax.Array,
    loss: Callable[[PyTree, Batch], jax.Array] | None = None,
    train_apply: Function | None = None,
    distance: Distance | None = "classes",
    importance: Importance | Mapping[str, Any] = Learned(),  # noqa: B008
    groups: Collection[str] | Literal["internal", "all"] = "internal",
    multiple_of: int = 1,
    min_width: int = 1,
    protect: Sequence[str] = (),
    min_share: float | Mapping[str, float] = 0.0,
    max_share: float | Mapping[str, float] = 1.0,
    uniform: bool = False,
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
    examples: int = LIMIT,
    graph: Graph | None = None,
) -> Compression:
    """Remove the channels that a network misses least until it fits a budget.

    keep = argmax over keeps within `budget` of sum_c s_c, greedily in order of falling s; by
    default s = log F - alpha log c + a + u: masked Fisher F of `loss`, the cost c of a channel, and
    what 120 steps learn of the loss at hard masks, `distance(network(masked), network(whole))`.
    That reaches 78.4 % on ResNet-20 and 89.2 on ResNet-56 (CIFAR-10, half of the FLOPs, BatchNorm
    re-estimated, no fine-tuning), where bare Taylor scores reach 33.5 and 71.0. Without labels it
    is 1.4 points less on ResNet-20, one seed (`benchmarks.front_doors`).

    Afterwards, `compensate` the kernels, re-estimate BatchNorm (`training.reestimate` with
    `compression.function(train_apply)`), then fine-tune, for example by `recipes.distill`.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the trained network; an example axis first in all its inputs.
        batches: an iterable of batches, arrays or pytrees `[examples, ...]` of any sizes, in random
            order, augmented as in training. Up to `examples` of them are read, once; the default
            draws 1,024 for Fisher and 15,360 for the gates, and goes through fewer again.
        budget: ceilings that all hold; fractions are of the network.
        key: of all that is random.
        loss: `loss(variables, batch) -> scalar`, in training mode where there is BatchNorm. It is
            what Fisher's gradients are of; without labels these are of the distance, too.
        train_apply: `train_apply(variables, inputs, key) -> (outputs, state)`, in training mode:
            what the distance looks at where there is BatchNorm. Without it, `apply`.
        distance: "classes" for logits (`kd`), "values" for all else (squared
            error), a function, or None to learn from `loss` alone, which is a little worse.
        importance: how channels are scored, `Learned(...)`, `Fisher(...)`, `Taylor(...)`,
            `Meta(...)`, `Magnitude(...)`, `Random()`, any function like these, or scores.
        groups: those that may lose channels: "internal" leaves residual streams whole (no gain was
            measured from them; a network with nothing else offers all), "all", or names. Both
            words leave out groups whose gates have no gradient, see `graph.graded`.
        multiple_of: axes of kernels are multiples of this, or full; see `prune.channel_steps`.
        min_width: fewest channels of a group; with 0, all those in `graph.optional` may go wholly.
        protect: patterns of leaf paths whose groups stay whole.
        min_share: the least part of a group that is kept, a number or `{pattern: share}` of names.
        max_share: the largest part, likewise.
        uniform: keep the same share of all groups; importance says which channels of each.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        mask: `mask(batch) -> [examples, length]`, nonzero where a position of a sequence is no
            padding, e.g. `operator.itemgetter("mask")`: the distance leaves out the others. None
            counts every position.
        examples: how many are read at most.
        graph: of the network, traced otherwise than on one example of `apply`.

    Returns:
        A pure `Compression`: `.variables(variables)`, `.function(apply)`, `.function(train_apply)`.

    Raises:
        ValueError: before anything is computed, if the budget cannot be reached, a group or
            pattern is unknown, batches are empty or unlike, the loss is no scalar, or the outputs
            are not what the distance compares, or have other positions than the mask.
        TypeError: if batches is one batch, or the budget a bare number.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> first, second, third = jax.random.split(jax.random.key(0), 3)
        >>> variables = {
        ...     "a": jax.random.normal(first, (3, 8)),
        ...     "b": jax.random.normal(second, (8, 2)),
        ... }
        >>> batches = [jax.random.normal(third, (16, 3))]
        >>> settings = Learned(steps=4)
        >>> compression = prune(
        ...     apply, variables, batches, Budget(flops=0.5), key=first, importance=settings
        ... )
        >>> compression.variables(variables)["a"].shape
        (3, 4)
    """
    require(
        multiple_of=integer(multiple_of),
        min_width=integer(min_width, least=0),
        min_share=share_problem(min_share),
        max_share=share_problem(max_share),
        examples=integer(examples),
    )
    require_finite("variables", variables, "train or load them again")
    first, every = opened(batches)
    graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
    chosen = groups_of(graph, groups)
    limits: dict[str, Any] = {
        "multiple_of": multiple_of,
        "min_width": min_width,
        "protect": protect,
        "min_share": min_share,
        "max_share": max_share,
    }
    check_selection(graph, chosen, budget, **limits)
    if loss is not None:
        check_scalar(loss, variables, first)
    ask = None
    if distance is not None:
        there = None if mask is None else mask(first)
        check_answers(apply, variables, inputs(first), distance, there)
        ask = ask_of((apply, train_apply), variables, inputs, distance, mask)
    if callable(importance):
        drawn = partial(draw, gather(every, examples))
        scores = importance(Problem(graph, variables, chosen, drawn, loss, ask), budget, key)
    else:
        scores = importance
    return shrink(graph, select(graph, scores, budget, uniform=uniform, **limits))


def groups_of(graph: Graph, groups: Collection[str] | str) -> tuple[str, ...]:
    """Return the names of the groups that may lose channels.

    Raises:
        ValueError: if a group is unknown, or there is none.
    """
    if isinstance(groups, str):
        if groups not in ("internal", "all"):
            raise ValueError(f"groups is 'internal', 'all', or a list of names, but is {groups!r}")
        # Importances are gradients by gates; groups without one are pruned where they are named.
        graded = graph.graded or list(graph.groups)
        inside = set(internal_groups(graph)) if groups == "internal" else set()
        groups = [name for name in graded if name in inside] or graded
    check_groups(graph, dict.fromkeys(groups), "groups")
    if not groups:
        raise ValueError("nothing can be pruned: the graph has no groups; print(graph) tells why")
    return tuple(groups)
