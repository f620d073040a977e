"""Optimizer states shrink with the leaves they mirror, whatever the optimizer's structure."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress.compression import Compression, chain
from jaxcompress.graph import trace
from jaxcompress.prune import shrink

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
SHAPES = {"first": (4, 6), "bias": (6,), "second": (6, 5), "third": (5, 2)}


def variables_of(collection: bool) -> Any:
    generator = np.random.default_rng(1)
    leaves = {n: jnp.asarray(generator.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
    return {"params": leaves} if collection else leaves


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    leaves = variables.get("params", variables)
    hidden = jnp.tanh(rows @ leaves["first"] + leaves["bias"])
    return jnp.tanh(hidden @ leaves["second"]) @ leaves["third"]


def pruned(variables: Any) -> Compression:
    graph = trace(apply, variables, ROWS)
    return shrink(graph, {n: np.arange(g.width) % 2 == 0 for n, g in graph.groups.items()})


def labels(tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "decayed" if "second" in jax.tree_util.keystr(path) else "plain", tree
    )


def biases(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim == 1, tree)


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "adamw with a schedule": optax.adamw(optax.cosine_decay_schedule(1e-2, 10)),
    "sgd with momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9)),
    "masked": optax.chain(optax.masked(optax.trace(0.5), biases), optax.sgd(1e-2)),
    "multi_transform": optax.multi_transform(
        {"decayed": optax.adam(1e-2), "plain": optax.sgd(1e-2, momentum=0.9)}, labels
    ),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "averaged": optax.chain(optax.scale_by_adam(), optax.ema(0.9)),
}


def trained(tx: Any, variables: Any) -> Any:
    """Return the state after two steps with gradients that a shrink can be followed through."""
    state = tx.init(variables)
    for step in (1.0, 2.0):
        gradients = jax.tree.map(lambda leaf, step=step: step * jnp.sin(leaf), variables)
        _, state = tx.update(gradients, state, variables)
    return state


@pytest.mark.parametrize("collection", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_is_that_of_the_shrunk_variables(name: str, collection: bool) -> None:
    tx, variables = OPTIMIZERS[name], variables_of(collection)
    prune = pruned(variables)
    state, small = tx.init(variables), prune.variables(variables)
    shrunk_state = prune.optimizer_state(tx, state)
    expected = tx.init(small)
    assert jax.tree.structure(shrunk_state) == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, shrunk_state) == jax.tree.map(jnp.shape, expected)
    tx.update(jax.tree.map(jnp.ones_like, small), shrunk_state, small)
    if name == "clipped":
        # The global norm, and with it the momentum, is that of all variables.
        return
    got = prune.optimizer_state(tx, trained(tx, variables))
    jax.tree.map(np.testing.assert_array_equal, got, trained(tx, small))


def test_the_state_of_params_alone() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    prune = pruned(variables)
    got = prune.optimizer_state(tx, trained(tx, variables["params"]))
    expected = trained(tx, prune.variables(variables)["params"])
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_a_chain_shrinks_the_state_step_by_step() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    first = pruned(variables)
    small = first.variables(variables)
    graph = trace(first.function(apply), small, ROWS)
    second = shrink(graph, {n: np.arange(g.width) < 2 for n, g in graph.groups.items()})
    both = chain(first, second)
    got = both.optimizer_state(tx, trained(tx, variables))
    jax.tree.map(np.testing.assert_array_equal, got, trained(tx, both.variables(variables)))


def test_a_state_of_other_variables_is_refused() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    prune = pruned(variables)
    state = tx.init(prune.variables(variables))
    with pytest.raises(ValueError, match=r"mu.*first.* \(4, 3\) for params/first \(4, 6\)"):
        prune.optimizer_state(tx, state)


def nested(variables: Any, rows: jax.Array) -> jax.Array:
    params = variables["params"]
    hidden = jnp.tanh(rows @ params["kernel"]) @ params["last"]
    return hidden + jnp.cumsum(rows @ params["sub"]["kernel"], axis=1)[:, :2]


@pytest.mark.parametrize("collection", [False, True])
@pytest.mark.parametrize("name", ["adam", "multi_transform", "masked", "only the deeper"])
def test_a_leaf_deeper_in_the_tree_is_not_taken_for_one_of_the_same_name(
    name: str, collection: bool
) -> None:
    shapes = {"kernel": (4, 6), "last": (6, 2)}
    params: Any = {key: jnp.ones(shape) for key, shape in shapes.items()}
    params["sub"] = {"kernel": jnp.ones((4, 6))}
    deeper = lambda tree: jax.tree.map_with_path(lambda path, _: "sub" in str(path), tree)  # noqa: E731
    tx = {**OPTIMIZERS, "only the deeper": optax.masked(optax.trace(0.5), deeper)}[name]
    variables = {"params": params}
    prune = shrink(trace(nested, variables, ROWS), {"params/kernel[1]": np.arange(6) < 2})
    part = (lambda tree: tree) if collection else (lambda tree: tree["params"])
    got = prune.optimizer_state(tx, tx.init(part(variables)))
    expected = tx.init(part(prune.variables(variables)))
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
