"""Meta-learned gate importance: what a channel is worth after the others had a chance to adapt.

A channel whose removal a few optimizer steps make good again is unimportant. So the gradient with
respect to the gates is taken of the loss on unseen (query) batches, through the inner steps on
training (support) batches that the gated network took before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.batches import check_examples
from jaxcompress.compiled import entry, jit_of
from jaxcompress.compression.checks import check_groups
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph, Trainable
from jaxcompress.parallel import on_host
from jaxcompress.per_device import AxisName, slope
from jaxcompress.prune.gating import gated
from jaxcompress.prune.importance.checks import check_classes, check_scalar
from jaxcompress.prune.importance.inner_steps import adapt, check_steps
from jaxcompress.prune.importance.rounds import map_rounds
from jaxcompress.prune.scores import Scores

__all__ = ["meta"]

SGD = optax.sgd(0.01)


def meta(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    support: Batch,
    query: Batch,
    *,
    optimizer: optax.GradientTransformation | None = None,
    order: int = 2,
    square: bool = False,
    gates: Mapping[str, Array] | None = None,
    groups: Collection[str] | None = None,
    together: int = 1,
    trainable: Trainable | None = None,
    axis_name: AxisName = None,
) -> Scores:
    """Score a channel by the gradient of the query loss through inner optimizer steps.

    s_c = mean over episodes of |m_c|, m_c = dL(query; θ_K(g), g) / dg_c at the given gates, and
    θ_K(g) the variables after K steps of the optimizer on the support batches (see `adapt`).
    With order 1, θ_K is taken as a constant: Taylor importance after K steps.

    The paper "Compressing Neural Networks on Limited Computing Resources" (IEEE Access 2025)
    prunes by meta-learned gate importance, but only its abstract is public: this is our
    reconstruction. Alone it chooses no better than a norm (`benchmarks.importance`);
    `prune.learned.learn` puts the same gradient to better use.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`, in evaluation or training mode. Pass the same
            function and optimizer again and nothing is compiled twice.
        variables: pytree of arrays.
        support: pytree of arrays `[episodes, steps, batch, ...]`.
        query: pytree of arrays `[episodes, batch, ...]`.
        optimizer: of the inner steps, default `optax.sgd(0.01)`.
        order: 1 or 2.
        square: average m_c^2 instead.
        gates: where to take the gradient, default all 1; `{group: float[width]}`, or
            `[episodes, width]` for those of each episode, e.g. `random_masks`. May be traced.
        groups: which to score, default all whose gates have a gradient, `graph.graded`.
        together: how many episodes are vmapped, a divisor of their number.
        trainable: what the optimizer changes, default `default_trainable`.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.

    Returns:
        `{group: float[width]}`, not negative; raw gradients, which `select` divides by what a
        channel costs.

    Raises:
        ValueError: if the variables hold NaN or infinity, a batch is empty, a query batch has
            examples of one class only (by its leaf `label`), the loss is no scalar, a group
            unknown, or numbers of episodes differ or do not divide by `together`.
        FloatingPointError: if a loss is not finite (which episode, which step) or a gradient.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: (apply(variables, x) ** 2).mean()
        >>> support, query = jnp.ones((2, 3, 5, 3)), jnp.ones((2, 5, 3))
        >>> meta(graph, loss, variables, support, query)["a[1]"].shape
        (4,)
    """
    require(order=integer(order, least=1, most=2), together=integer(together))
    require_finite("variables", variables, "train or load them again")
    names = tuple(graph.graded) if groups is None else tuple(groups)
    check_groups(graph, dict.fromkeys([*names, *(gates or {})]), "meta")
    _check(loss, variables, support, query, together)
    episodes = len(jax.tree.leaves(query)[0])
    at = _gates_of_episodes(graph, gates or {}, names, episodes)
    # The optimizer by its functions: a tuple of them could not be referred to weakly.
    functions = (graph, loss, *(optimizer or SGD)[:2], *([trainable] if trainable else []))
    episode = jit_of(_episodes, *functions, order=order, names=names, axis_name=axis_name)
    inputs = jax.tree.map(
        lambda leaf: leaf.reshape(-1, together, *jnp.shape(leaf)[1:]), (at, support, query)
    )
    gradients, losses = map_rounds(partial(episode, variables), inputs)
    check_steps(losses.reshape(episodes, -1))
    size = jnp.square if square else jnp.abs
    sizes = {n: size(gradient.reshape(episodes, -1)) for n, gradient in gradients.items()}
    _check_finite(sizes)
    means = {name: score.mean(0) for name, score in sizes.items()}
    return Scores(means, "meta", "raw gradient", power=1.0)


def _episodes(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    init: Callable[..., Any],
    update: Callable[..., Any],
    *trainable: Trainable,
    order: int,
    names: tuple[str, ...],
    axis_name: AxisName,
) -> Callable[..., tuple[Any, Any]]:
    """Make the meta-gradients and losses of episodes, vmapped."""
    optimizer = optax.GradientTransformation(init, update)
    chosen = trainable[0] if trainable else None
    gated_loss = gated(graph, loss)

    options: dict[str, Any] = {"order": order, "trainable": chosen, "axis_name": axis_name}

    def after_steps(gates: PyTree, *rest: PyTree) -> tuple[PyTree, PyTree]:
        variables, support, query = rest
        adapted, losses = adapt(gated_loss, variables, gates, support, optimizer, **options)
        return gated_loss(adapted, gates, query), losses

    def episode(variables: PyTree, inputs: tuple[Any, Any, Any]) -> tuple[PyTree, PyTree]:
        gates, support, query = inputs
        gradient_of = slope(after_steps, axis_name)
        (value, losses), gradient = gradient_of(gates, variables, support, query)
        return {name: gradient[name] for name in names}, jnp.append(losses, value)

    def episodes(variables: PyTree, inputs: tuple[Any, Any, Any]) -> tuple[PyTree, PyTree]:
        if len(jax.tree.leaves(inputs)[0]) == 1:
            # A vmap of one would give every kernel a batch axis: convolutions would be slower.
            single = episode(variables, jax.tree.map(lambda leaf: leaf[0], inputs))
            return jax.tree.map(lambda leaf: leaf[None], single)
        return jax.vmap(partial(episode, variables))(inputs)

    return episodes


def _gates_of_episodes(
    graph: Graph, gates: Mapping[str, Array], names: Collection[str], episodes: int
) -> dict[str, jax.Array]:
    """Return the gates `[episodes, width]` of the named groups and of those given."""
    repeated = {}
    for name in {**dict.fromkeys(names), **gates}:
        width = graph.groups[name].width
        repeated[name] = jnp.broadcast_to(gates.get(name, jnp.ones(width)), (episodes, width))
    return repeated


def _check(loss: Function, variables: PyTree, support: Batch, query: Batch, together: int) -> None:
    check_examples({"query": query}, leading=2)
    check_examples({"support": support}, leading=3)
    episodes = {
        name: len(jax.tree.leaves(t)[0]) for name, t in (("support", support), ("query", query))
    }
    if len(set(episodes.values())) > 1:
        raise ValueError(f"an episode has support and query batches, but there are {episodes}")
    if episodes["query"] % together:
        raise ValueError(
            f"episodes are taken together in equal parts, but {together=} does not divide the "
            f"{episodes['query']} episodes; choose a divisor"
        )
    check_classes(query)
    check_scalar(loss, variables, entry(query, 0))


def _check_finite(sizes: Mapping[str, Array]) -> None:
    if any(isinstance(size, jax.core.Tracer) for size in sizes.values()):
        return
    wrong = {
        name: np.flatnonzero(~np.isfinite(on_host(size)).all(axis=1)).tolist()
        for name, size in sizes.items()
    }
    wrong = {name: episodes for name, episodes in wrong.items() if episodes}
    if wrong:
        raise FloatingPointError(
            f"gradients must be finite, but those of these groups and episodes are not: {wrong}; "
            "an inner optimizer that takes square roots needs an eps_root, e.g. "
            "optax.adam(1e-3, eps_root=1e-8)"
        )
