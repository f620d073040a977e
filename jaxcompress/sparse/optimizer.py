"""`sparse_optimizer`: any optax optimizer, with removed weights held at exactly zero.

At the events of a schedule the masks are chosen anew, inside jit and without recompiling: how many
weights each leaf keeps at each event is known on the host, as a small table of integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.compression.optimizer_state import state_owners
from jaxcompress.graph import Graph
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse.counts import Scope, pools
from jaxcompress.sparse.making import choose
from jaxcompress.sparse.masks import in_program_order, masked
from jaxcompress.sparse.oriented import oriented
from jaxcompress.sparse.patterns import Block, Pattern
from jaxcompress.sparse.plan import Plan, check_plan, tables, turned_of
from jaxcompress.sparse.regrow import Regrow
from jaxcompress.sparse.schedule import Schedule
from jaxcompress.sparse.scores import Evidence, Score, magnitude, movement_step

__all__ = ["SparseState", "masks_of", "sparse_optimizer"]


class SparseState(NamedTuple):
    """State of `sparse_optimizer`, all trees like the parameters.

    Attributes:
        step: `int32[]`.
        masks: bool of each pruned leaf's shape; the scalar True for exempt leaves.
        movement: what the score accumulates; scalars where it does not.
        inner: state of the wrapped optimizer.
    """

    step: jax.Array
    masks: PyTree
    movement: PyTree
    inner: Any


def sparse_optimizer(
    tx: optax.GradientTransformation,
    schedule: Schedule,
    *,
    score: Score = magnitude,
    scope: Scope = "uniform",
    pattern: Pattern | None = None,
    regrow: Regrow | None = None,
    protect: Sequence[str] = (),
    key: jax.Array | None = None,
    graph: Graph | None = None,
    include: Sequence[str] = (),
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it prunes on a schedule and keeps removed weights at zero.

    At step t, first, if t is an event of the schedule, the masks are chosen anew from the weights
    and gradients; then `tx` sees gradients and its own state masked; last, updates of removed
    weights are replaced by -w, so that w + update is exactly 0 whatever `tx` does (momentum,
    weight decay).

    Args:
        tx: any optax optimizer; its own momenta are masked too.
        schedule: when, and how sparse.
        score: what a weight is worth.
        scope: how the sparsity spreads over the leaves.
        pattern: which weights go together; `Block()` (single ones) by default.
        regrow: lets removed weights come back; without it the removed ones only grow in number.
        protect: shell-style patterns of leaf paths that are exempt, besides biases, scales and
            embeddings.
        key: for random scores and regrowth; `jax.random.key(0)` by default. What is drawn for a
            leaf depends on its place in the graph's program; without a graph, on that by name.
        graph: of a function of these parameters; says which leaves are kernels, see `make_masks`.
        include: shell-style patterns of leaves to prune though they would be exempt.

    Returns:
        A transformation whose `init` raises ValueError if the pattern does not divide a leaf or
        cannot know its inputs, the schedule does not end at the pattern's sparsity, a leaf is not
        the graph's or holds NaN or infinity, or a path's pattern matches nothing.

    Raises:
        ValueError: if regrowth is asked for with a scope or pattern that it does not know.

    Example:
        >>> from jaxcompress.sparse.schedule import one_shot
        >>> tx = sparse_optimizer(optax.sgd(1.0, momentum=0.9), one_shot(0.5))
        >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
        >>> updates, state = tx.update({"kernel": jnp.ones((1, 2))}, tx.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()
        [[0.0, 1.0]]
    """
    pattern, key = pattern or Block(), jax.random.key(0) if key is None else key
    options = (tuple(protect), key, graph, tuple(include))
    plan = Plan(schedule, score, scope, pattern, regrow, *options)
    check_plan(plan)
    inner = optax.with_extra_args_support(tx)

    def init(params: PyTree) -> SparseState:
        leaves, treedef = flatten_with_paths(params)
        # optax maps states over an empty stand-in of the parameters, which has nothing to check.
        turned = turned_of(leaves, plan) if leaves else {}
        shapes = {path: one.shape for path, one in turned.items()}
        full = [jnp.ones(shapes.get(path, ()), bool) for path in leaves]
        sums = [
            jnp.zeros(shapes.get(path, ()) if score.accumulates else (), jnp.float32)
            for path in leaves
        ]
        return SparseState(
            jnp.zeros((), jnp.int32),
            jax.tree.unflatten(treedef, full),
            jax.tree.unflatten(treedef, sums),
            inner.init(params),
        )

    def update(
        gradients: PyTree, state: SparseState, params: PyTree = None, **extra: Json
    ) -> tuple[Any, SparseState]:
        if params is None:
            raise ValueError("masks are chosen from the parameters: call update(..., params)")
        moved = _moved(state.movement, gradients, params, score)
        masks = _next_masks(plan, state, gradients, params, moved)
        inner_state = _masked_state(state.inner, masks)
        updates, inner_state = inner.update(masked(gradients, masks), inner_state, params, **extra)
        held = jax.tree.map(_held, updates, params, masks)
        return held, SparseState(state.step + 1, masks, moved, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def masks_of(opt_state: PyTree) -> dict[str, jax.Array]:
    """Return the masks in an optimizer state of `sparse_optimizer`, by path, without exempt leaves.

    Raises:
        ValueError: if there is not exactly one `SparseState` in it.

    Example:
        >>> from jaxcompress.sparse.schedule import one_shot
        >>> state = sparse_optimizer(optax.sgd(1.0), one_shot(0.5)).init({"a": jnp.ones((1, 2))})
        >>> masks_of((state, ()))["a"].tolist()
        [[True, True]]
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, SparseState))
    states = [node for node in nodes if isinstance(node, SparseState)]
    if len(states) != 1:
        raise ValueError(
            f"masks come from one state of `sparse_optimizer`, but there are {len(states)} here"
        )
    masks, _ = flatten_with_paths(states[0].masks)
    return {path: mask for path, mask in masks.items() if np.ndim(mask)}


def _next_masks(
    plan: Plan, state: SparseState, gradients: PyTree, params: PyTree, moved: Any
) -> PyTree:
    masks, treedef = flatten_with_paths(state.masks)
    weights, slopes, sums = (flatten_with_paths(tree)[0] for tree in (params, gradients, moved))
    masked_paths = [path for path, mask in masks.items() if np.ndim(mask)]
    paths = in_program_order(masked_paths, plan.graph)
    event = plan.schedule.event(state.step)
    key = jax.random.fold_in(plan.key, state.step)
    turned = oriented(weights, paths, plan.pattern, plan.graph)
    kept, dropped = tables(plan, turned)

    def changed() -> dict[str, jax.Array]:
        known = {
            p: Evidence(weights[p], slopes[p], sums[p], jax.random.fold_in(key, number))
            for number, p in enumerate(paths)
        }
        return choose(
            known,
            {path: masks[path] for path in paths},
            pools(plan.scope, paths),
            jnp.asarray(kept)[event],
            None if dropped is None else jnp.asarray(dropped)[event],
            score=plan.score,
            pattern=plan.pattern,
            turned=turned,
            every_output=plan.scope == "global",
            regrow=plan.regrow,
        )

    current = {path: masks[path] for path in paths}
    new = jax.lax.cond(plan.schedule.is_event(state.step), changed, lambda: current)
    return jax.tree.unflatten(treedef, [new.get(path, mask) for path, mask in masks.items()])


def _moved(movement: PyTree, gradients: PyTree, params: PyTree, score: Score) -> PyTree:
    if not score.accumulates:
        return movement
    return jax.tree.map(
        lambda total, g, w: total + movement_step(g, w) if np.ndim(total) else total,
        movement,
        gradients,
        params,
    )


def _masked_state(state: PyTree, masks: PyTree) -> PyTree:
    """Mask what has the shape of its parameter; Adafactor's rows and columns hold no weights."""
    leaves, treedef = flatten_with_paths(state)
    by_path, _ = flatten_with_paths(masks)
    for path, owner in state_owners(state, list(by_path)).items():
        mask = by_path[owner.path]
        if np.ndim(mask) and np.shape(leaves[path]) == np.shape(mask):
            leaves[path] = jnp.where(mask, leaves[path], 0)
    return jax.tree.unflatten(treedef, list(leaves.values()))


def _held(update: Any, weight: Any, mask: Array) -> PyTree:
    return jnp.where(mask, update, -weight) if np.ndim(mask) else update
