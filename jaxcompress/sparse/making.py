"""Masks from scores: once, for trained weights (`make_masks`), or as one event of a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.layouts import is_split, layout_of
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse.counts import Scope, kept_counts, least_kept, pools
from jaxcompress.sparse.masks import prunable
from jaxcompress.sparse.oriented import Oriented, check_pattern, oriented
from jaxcompress.sparse.patterns import Block, Pattern
from jaxcompress.sparse.regrow import Regrow
from jaxcompress.sparse.scores import Evidence, Score, magnitude, movement_step

__all__ = ["choose", "make_masks"]

REMEDY = "what is removed goes by these; train or load them again, or protect these leaves"


def make_masks(
    variables: PyTree,
    sparsity: Array,
    *,
    score: Score = magnitude,
    scope: Scope = "uniform",
    pattern: Pattern | None = None,
    protect: Sequence[str] = (),
    gradients: PyTree = None,
    key: jax.Array | None = None,
    graph: Graph | None = None,
    include: Sequence[str] = (),
) -> dict[str, jax.Array]:
    """Choose which weights to keep, once.

    With a graph, which leaves are kernels and along which axes they are contracted is known. See
    `jaxcompress.sparse.masks.prunable` for what is exempt, with and without one.

    Counts are exact: a leaf of n weights keeps n - round(sparsity * n), of equal scores some
    that are spread evenly. Works inside jit; the sparsity itself may be traced unless the scope is
    "erk".

    Args:
        variables: what to prune.
        sparsity: fraction to remove, in [0, 1), of the pruned leaves.
        score: what a weight is worth.
        scope: how the sparsity spreads over the leaves.
        pattern: which weights go together; `Block()` (single ones) by default.
        protect: shell-style patterns of leaf paths that are exempt, besides biases, scales and
            embeddings.
        gradients: a tree like the trainable leaves, for scores that need it.
        key: for random scores; `jax.random.key(0)` by default. What is drawn for a leaf depends on
            its place in the graph's program; without a graph, on that by name.
        graph: of a function of these variables.
        include: shell-style patterns of leaves to prune though they would be exempt.

    Returns:
        `{path: bool[shape]}` of the pruned leaves, for `jaxcompress.sparsify`.

    Raises:
        ValueError: if the sparsity is out of range, or too high for a weight per output where all
            leaves compete, the scope is unknown, the pattern does not divide a leaf or
            cannot know its inputs, a path's pattern matches nothing, a leaf is not the graph's,
            gradients are missing, or a leaf or its gradient holds NaN or infinity.

    Example:
        >>> variables = {"a": jnp.array([[1.0, -2.0], [0.5, 4.0]]), "bias": jnp.ones(2)}
        >>> {path: mask.tolist() for path, mask in make_masks(variables, 0.5).items()}
        {'a': [[False, True], [False, True]]}
    """
    pattern = pattern or Block()
    leaves, _ = flatten_with_paths(variables)
    paths = prunable(leaves, protect, graph=graph, include=include)
    shapes = {path: tuple(np.shape(leaves[path])) for path in paths}
    turned = oriented(leaves, paths, pattern, graph)
    check_pattern(pattern, {path: one.turned for path, one in turned.items()})
    require_finite("variables", {path: leaves[path] for path in paths}, REMEDY)
    least = least_kept(turned, scope, pattern)
    counts = kept_counts(shapes, sparsity, scope, pattern, least)
    slopes = {} if gradients is None else flatten_with_paths(gradients)[0]
    missing = [path for path in paths if path not in slopes]
    if missing and score.needs_gradient:
        raise ValueError(
            f"this score reads the gradient of every pruned leaf, but {missing} have none; pass "
            "gradients=, a tree like the trainable leaves"
        )
    if score.needs_gradient:
        require_finite("gradients", {path: slopes[path] for path in paths}, REMEDY)
    key = jax.random.key(0) if key is None else key
    known = {}
    for number, path in enumerate(paths):
        weight = jnp.asarray(leaves[path])
        slope = jnp.asarray(slopes.get(path, jnp.zeros(())))
        own_key = jax.random.fold_in(key, number)
        known[path] = Evidence(weight, slope, movement_step(slope, weight), own_key)
    whole = {path: jnp.ones(shape, bool) for path, shape in shapes.items()}
    masks = choose(
        known,
        whole,
        pools(scope, paths),
        counts,
        score=score,
        pattern=pattern,
        turned=turned,
        every_output=least is not None,
    )
    return {path: _laid_out(mask, leaves[path]) for path, mask in masks.items()}


def _laid_out(mask: jax.Array, leaf: Array) -> jax.Array:
    """Split a mask as its leaf is; ranked, it came out whole."""
    return jax.device_put(mask, layout_of(leaf)) if is_split(leaf) else mask


def choose(
    known: Mapping[str, Evidence],
    masks: Mapping[str, jax.Array],
    groups: Sequence[Sequence[str]],
    kept: Any,
    dropped: Any = None,
    *,
    score: Score,
    pattern: Pattern,
    turned: Mapping[str, Oriented],
    every_output: bool = False,
    regrow: Regrow | None = None,
) -> dict[str, jax.Array]:
    """Choose the next masks; without regrowth what is removed stays removed.

    Args:
        known: per leaf.
        masks: the present ones.
        groups: the leaves that compete with each other.
        kept: how many units each group of leaves keeps, a sequence or `int32[groups]`.
        dropped: how many of these are grown, for regrowth; None without.
        score: what a weight is worth.
        pattern: which weights go together.
        turned: the axes that the pattern takes for inputs and outputs, per leaf.
        every_output: whether each output keeps its best unit, whatever others are worth.
        regrow: where to grow.
    """
    new: dict[str, jax.Array] = {}
    for number, paths in enumerate(groups):
        scores = [jnp.where(masks[p], score.of(known[p]), -jnp.inf) for p in paths]
        grown = 0 if dropped is None else dropped[number]
        apart = [turned[path].apart for path in paths] if every_output else None
        chosen = _kept(pattern, turned, paths, scores, kept[number] - grown, apart)
        if regrow is not None:
            scores = [jnp.where(chosen[p], -jnp.inf, regrow.score(known[p])) for p in paths]
            more = _kept(pattern, turned, paths, scores, grown)
            chosen = {path: chosen[path] | more[path] for path in paths}
        new |= chosen
    return new


def _kept(
    pattern: Pattern,
    turned: Mapping[str, Oriented],
    paths: Sequence[str],
    scores: Sequence[jax.Array],
    count: Array,
    apart: Sequence[int] | None = None,
) -> dict[str, jax.Array]:
    """Keep the best of these leaves, each in the order of its inputs and outputs."""
    pairs = zip(paths, scores, strict=True)
    masks = pattern.keep([turned[path].forward(score) for path, score in pairs], count, apart)
    return {path: turned[path].back(mask) for path, mask in zip(paths, masks, strict=True)}
