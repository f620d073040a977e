"""`renew`: BatchNorm's statistics, re-estimated as far as that is better than to keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.backend import compiled, fast_if_large, is_alone
from jaxcompress.compiled import jit_of
from jaxcompress.compression.precision import widened
from jaxcompress.recipes.distances import Distance, check_answers, distance_of
from jaxcompress.recipes.examples import Inputs, Mask, Seen, cut, gather, inputs_of, opened
from jaxcompress.training import Running, reestimate

__all__ = ["SHARES", "renew"]

SHARES = (0.0, 0.5, 1.0)


def renew(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch],
    teacher: tuple[Callable[[PyTree, Batch], Array], Any],
    *,
    train_apply: Function,
    key: jax.Array,
    distance: Distance = "classes",
    statistics: Sequence[Running] | None = None,
    shares: Sequence[float] = SHARES,
    examples: int = 2048,
    compared: int = 512,
    size: int = 128,
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
) -> Any:
    """Return variables whose running statistics bring the answers nearest to another network's.

    new = (1 - s) old + s `training.reestimate`(...), s the one of `shares` with the least mean
    distance(apply(new, x), teacher(x)), the first of equals. Channels that go change what later
    layers see, so that statistics are re-estimated; but a few images tell them worse than the many
    of training, and kernels that `compensate` see nearly what they saw. EfficientNet-Lite0 at 80 %
    of the FLOPs, 250 images, no labels: 80.4 of 88.8 % (`docs/results/imagenet.md`).

    Args:
        apply: of the smaller network, in evaluation mode.
        variables: of it; what is re-estimated beside statistics stays.
        batches: an iterable of batches; see `prune`.
        teacher: `(apply, variables)` of the whole network.
        train_apply: of the smaller network, in training mode.
        key: of its dropout.
        distance: "classes" for logits, "values" for all else, or a function; see `prune`.
        statistics: see `training.reestimate`.
        shares: what is tried.
        examples: that statistics are estimated on, at most.
        compared: those of them that answers are compared on, at most.
        size: of their batches.
        inputs: what of a batch the networks are given; its `image`, or the batch itself.
        mask: which positions of a batch are no padding; see `prune`.

    Raises:
        ValueError: if batches are empty or unlike, answers are not what the distance compares, or
            there are no statistics, or no share leaves answers that are finite.
        TypeError: if batches is one batch.

    Example:
        >>> def train_apply(variables, x, key):
        ...     mean = 0.9 * variables["mean"] + 0.1 * x.mean()
        ...     return x - x.mean(), {"mean": mean}
        >>> apply = lambda variables, x: x - variables["mean"]
        >>> batches = [jnp.arange(8.0).reshape(4, 2)]
        >>> functions = {"train_apply": train_apply, "distance": "values"}
        >>> teacher = apply, {"mean": jnp.float32(3.4)}
        >>> key, old = jax.random.key(0), {"mean": jnp.float32(9.0)}
        >>> new = renew(apply, old, batches, teacher, key=key, **functions)
        >>> round(float(new["mean"]), 3)
        3.5
    """
    require(
        examples=integer(examples),
        compared=integer(compared),
        size=integer(size),
        shares=_shares_problem(shares),
    )
    first, every = opened(batches)
    seen_first = Seen.of(first, inputs, mask)
    check_answers(*teacher, seen_first.inputs, distance, seen_first.mask)
    seen = [Seen.of(batch, inputs, mask) for batch in cut(gather(every, examples), size)]
    images = [one.inputs for one in seen]
    new = reestimate(train_apply, variables, images, key=key, statistics=statistics)
    candidates = [_mixed(variables, new, share) for share in shares]
    if len(candidates) == 1:
        return candidates[0]
    looked = seen[: max(1, compared // size)]
    distances = list(map(_distances(apply, teacher, distance, looked), candidates))
    finite = [far for far in distances if math.isfinite(far)]
    if not finite:
        raise ValueError(
            f"statistics are chosen by how far the answers are, but these are {distances} for the "
            f"shares {list(shares)}; look for NaN in the variables and the batches"
        )
    return candidates[distances.index(min(finite))]


def _shares_problem(shares: Sequence[float]) -> str | None:
    problems = [problem for share in shares if (problem := real(share, least=0, most=1))]
    return next(iter(problems), None) if len(shares) else "at least one number"


def _mixed(old: PyTree, new: PyTree, share: float) -> PyTree:
    def mixed(one: Array, other: Array) -> Array:
        if share in (0, 1) or not jnp.issubdtype(jnp.result_type(one), jnp.inexact):
            return other if share else one
        return ((1 - share) * widened(one) + share * widened(other)).astype(jnp.result_type(one))

    return jax.tree.map(mixed, old, new)


def _asked(apply: Function, fast: bool) -> Function:
    return fast_if_large(apply) if fast else apply


def _distances(
    apply: Function, teacher: tuple[Any, Any], distance: Distance, seen: Sequence[Seen]
) -> Callable[[PyTree], float]:
    """Make the function that says how far answers are from the teacher's, who is asked once."""
    compare = distance_of(distance)
    # The same teacher asked again, for another network, is not compiled again.
    whole = jit_of(_asked, teacher[0], fast=is_alone((teacher[1], seen)))
    answers = [whole(teacher[1], one.inputs) for one in seen]

    def error(variables: PyTree, one: Seen, wanted: PyTree) -> jax.Array:
        return compare(apply(variables, one.inputs), wanted, one.mask).mean()

    run = compiled(error)

    def total(variables: PyTree) -> float:
        pairs = zip(seen, answers, strict=True)
        return sum(float(run(variables, one, wanted)) for one, wanted in pairs)

    return total
