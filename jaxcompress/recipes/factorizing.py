"""`low_rank`: from a trained network, some batches and a budget to kernels in two factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.backend import fast_if_large, is_alone
from jaxcompress.compression import Compression
from jaxcompress.finite import require_finite
from jaxcompress.graph import Budget, Graph, trace
from jaxcompress.knowledge import without_padding
from jaxcompress.low_rank import multiplied_out
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.ranks import Sites, default_forms, sites_of, uniform
from jaxcompress.low_rank.ranks.defaults import nothing_to_factorize
from jaxcompress.recipes.distances import Distance, check_answers
from jaxcompress.recipes.examples import (
    LIMIT,
    Inputs,
    Mask,
    Seen,
    draw,
    gather,
    inputs_of,
    one_example,
    opened,
)
from jaxcompress.recipes.sites import (
    Known,
    LowRankSettings,
    chosen_ranks,
    compensated,
    factorized,
    known_sites,
    weighted_sites,
)
from jaxcompress.training import reestimate

__all__ = ["LowRank", "low_rank"]

Chosen = Mapping[str, int | None]
Search = Callable[[Sites, Budget], Chosen]


class LowRank(NamedTuple):
    """A network in factors.

    Attributes:
        compression: `.function(apply)` runs on factors; `.variables` makes them from any variables,
            with the statistics of the network at hand inside.
        variables: the factors, refined and compensated, with BatchNorm re-estimated.
    """

    compression: Compression
    variables: PyTree


def low_rank(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch],
    budget: Budget,
    *,
    key: jax.Array,
    train_apply: Function | None = None,
    distance: Distance = "classes",
    ranks: Chosen | Search | None = None,
    forms: Mapping[str, str] | None = None,
    multiple_of: int = 1,
    compensate: int = 2,
    settings: LowRankSettings = LowRankSettings(),  # noqa: B008
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
    graph: Graph | None = None,
) -> LowRank:
    """Replace kernels by two factors each until the network fits a budget; no labels.

    ranks = argmin within `budget` of sum over sites of E|dz|^2, dz the change of the outputs that
    cutting R^T M S at a rank causes, R R^T the covariance of a site's inputs and S S^T that of its
    output gradients. The factors minimise the same; then, `compensate` times, they are fitted again
    to the inputs that the factorized network itself gives. On ResNet-56 (CIFAR-10, half of the
    FLOPs, no fine-tuning) that keeps 92.74 % of 93.39; without compensation 92.42.

    What compensation finds depends on the data and on the network as a whole, so it is no function
    that could be applied to other variables: `compression.variables` makes the factors before it,
    and the result has the final ones in `variables`.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the trained network.
        batches: an iterable of batches; see `recipes.prune`. 1,024 examples are enough.
        budget: ceilings that all hold; fractions are of the network.
        key: of all that is random.
        train_apply: `train_apply(variables, inputs, key) -> (outputs, state)`, in training mode:
            with it BatchNorm is re-estimated on the way and at the end, and factors leave means to
            it.
        distance: "classes" (what is added to all logits of an example changes nothing), "values",
            or `distance(outputs, answers)`, which counts as "values" here.
        ranks: `{site: rank}`, or a search such as `jc.ranks.enc_map`; the above without it.
        forms: `{site: form}` of the sites to factorize; those of
            `jc.ranks.default_forms` without it: all convolutions but the first, or, without any,
            all kernels that two factors can make cheaper.
        multiple_of: searched ranks are multiples of this, or the site is left alone.
        compensate: sweeps; 0 for none.
        settings: how much is looked at.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        mask: `mask(batch) -> [examples, length]`, nonzero where a position of a sequence is no
            padding: neither answers that have positions nor what dots are given there count. None
            counts all.
        graph: of the network, traced otherwise than on one example of `apply`.

    Returns:
        The compression and its variables.

    Raises:
        ValueError: before statistics are taken, if the budget cannot be reached, a site or form
            does not exist, batches are empty or unlike, or the mask is of other positions than the
            outputs.
        TypeError: if batches is one batch.

    Example:
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> first, second, third = jax.random.split(jax.random.key(0), 3)
        >>> variables = {
        ...     "a": jax.random.normal(first, (16, 16)),
        ...     "b": jax.random.normal(second, (16, 4)),
        ... }
        >>> batches = [jax.random.normal(third, (64, 16))]
        >>> result = low_rank(apply, variables, batches, Budget(flops=0.7), key=first)
        >>> outputs = result.compression.function(apply)(result.variables, batches[0])
        >>> outputs.shape, sorted(result.variables["a"])
        ((64, 4), ['first', 'second'])
    """
    require(multiple_of=integer(multiple_of), compensate=integer(compensate, least=0))
    require_finite("variables", variables, "train or load them again")
    first, every = opened(batches)
    graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
    forms = default_forms(graph) if forms is None else forms
    _check(graph, variables, budget, forms, ranks, multiple_of)
    start = Seen.of(first, inputs, mask)
    answers = jax.tree.leaves(jax.eval_shape(apply, variables, start.inputs))
    has_positions = any(leaf.ndim >= 3 for leaf in answers)
    check_answers(apply, variables, start.inputs, distance, start.mask if has_positions else None)
    examples = gather(every, LIMIT)
    keys = jax.random.split(key, 3 + compensate)

    def seen(key: jax.Array, count: int, size: int) -> list[Seen]:
        drawn = draw(examples, key, max(1, count // size), size)
        number = len(jax.tree.leaves(drawn)[0])
        each = [jax.tree.map(itemgetter(i), drawn) for i in range(number)]
        return [Seen.of(batch, inputs, mask) for batch in each]

    there = None if mask is None else attrgetter("mask")
    run = lambda tree, batch: apply(tree, batch.inputs)  # noqa: E731
    looked = seen(keys[0], settings.examples, settings.size)
    about = forms, train_apply is not None, settings, keys[1], there
    counted = _counted(apply, distance, has_positions)
    known = known_sites(graph, (run, counted), variables, looked, *about)
    chosen = _ranks(known, variables, budget, ranks, multiple_of)
    compression, small = factorized(known, variables, chosen)
    renewed = partial(_renewed, train_apply, [batch.inputs for batch in looked], keys[2])
    for sweep_key in keys[3:]:
        whole = renewed(multiplied_out(compression, small), lambda function: function)
        fitting = seen(sweep_key, settings.fitting, settings.fitting_size)
        small = compensated(known, compression, run, (variables, whole), small, fitting, there)
    return LowRank(compression, renewed(small, compression.function))


def _ranks(
    known: Known,
    variables: PyTree,
    budget: Budget,
    chosen: Chosen | Search | None,
    multiple_of: int,
) -> Chosen:
    if chosen is not None and not callable(chosen):
        return chosen
    sites = weighted_sites(known, variables, multiple_of)
    return chosen_ranks(sites, budget) if chosen is None else chosen(sites, budget)


def _check(
    graph: Graph,
    variables: PyTree,
    budget: Any,
    forms: Mapping[str, str],
    chosen: Any,
    multiple_of: int,
) -> None:
    """Raise unless there are sites, and ranks of them that fit the budget."""
    if not isinstance(budget, Budget):
        raise TypeError(f"the budget must be a Budget, but is {budget!r}; say Budget(flops=0.5)")
    if not forms:
        raise ValueError(nothing_to_factorize(graph))
    check_sites(graph, {**forms, **(chosen if isinstance(chosen, Mapping) else {})})
    if not isinstance(chosen, Mapping):
        uniform(sites_of(graph, variables, forms, multiple_of=multiple_of), budget)


def _counted(apply: Function, distance: Distance, has_positions: bool) -> Function:
    """Return the outputs as one array in which errors count: logits centred, none at padding."""

    def outputs(variables: PyTree, seen: Seen) -> jax.Array:
        answers = apply(variables, seen.inputs)
        there = seen.mask if has_positions else None
        leaves = jax.tree.leaves(answers if there is None else without_padding(answers, there))
        if distance == "classes":
            (logits,) = leaves
            return logits - logits.mean(-1, keepdims=True)
        return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    return outputs


def _renewed(
    train_apply: Function | None,
    seen: list[Array],
    key: jax.Array,
    variables: PyTree,
    changed: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> PyTree:
    """Re-estimate BatchNorm, where there is any to re-estimate."""
    if train_apply is None:
        return variables
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
    run = changed(train_apply)
    fast = fast_if_large(run) if is_alone((variables, stacked)) else run
    return reestimate(fast, variables, stacked, key=key)
