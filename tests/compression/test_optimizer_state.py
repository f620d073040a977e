"""Optimizer states shrink with the leaves they mirror, whatever the optimizer's structure."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxcompress.adapters import from_nnx
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.prune import shrink
from tests.compression.optimizers import (
    OPTIMIZERS,
    ROWS,
    apply,
    pruned,
    trained,
    variables_of,
)
from tests.laws import close


@pytest.mark.parametrize("collection", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_is_that_of_the_shrunk_variables(name: str, collection: bool) -> None:
    tx, variables = OPTIMIZERS[name], variables_of(collection)
    prune = pruned(variables)
    state, small = jax.jit(tx.init)(variables), prune.variables(variables)
    shrunk_state = prune.optimizer_state(tx, state)
    expected = jax.eval_shape(tx.init, small)
    structure: Any = jax.tree.structure(shrunk_state)
    assert structure == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, shrunk_state) == jax.tree.map(jnp.shape, expected)
    jax.eval_shape(tx.update, small, shrunk_state, small)
    if name == "clipped":
        # The global norm, and with it the momentum, is that of all variables.
        return
    after = prune.optimizer_state(tx, trained(tx, variables))
    jax.tree.map(np.testing.assert_array_equal, after, trained(tx, small))


def test_the_state_of_params_alone() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    prune = pruned(variables)
    after = prune.optimizer_state(tx, trained(tx, variables["params"]))
    expected = trained(tx, prune.variables(variables)["params"])
    jax.tree.map(np.testing.assert_array_equal, after, expected)


def test_a_chain_shrinks_the_state_step_by_step() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    first = pruned(variables)
    small = first.variables(variables)
    graph = trace(first.function(apply), small, ROWS)
    second = shrink(graph, {n: np.arange(g.width) < 2 for n, g in graph.groups.items()})
    both = chain(first, second)
    after = both.optimizer_state(tx, trained(tx, variables))
    jax.tree.map(np.testing.assert_array_equal, after, trained(tx, both.variables(variables)))


def test_a_state_of_other_variables_is_refused() -> None:
    variables, tx = variables_of(True), OPTIMIZERS["adam"]
    prune = pruned(variables)
    state = jax.jit(tx.init)(prune.variables(variables))
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
    params: Any = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    params["sub"] = {"kernel": np.ones((4, 6), np.float32)}
    deeper = lambda tree: jax.tree.map_with_path(lambda path, _: "sub" in str(path), tree)  # noqa: E731
    tx = {**OPTIMIZERS, "only the deeper": optax.masked(optax.trace(0.5), deeper)}[name]
    variables = {"params": params}
    prune = shrink(trace(nested, variables, ROWS), {"params/kernel[1]": np.arange(6) < 2})
    part = (lambda tree: tree) if collection else (lambda tree: tree["params"])
    after = prune.optimizer_state(tx, jax.jit(tx.init)(part(variables)))
    expected = jax.eval_shape(tx.init, part(prune.variables(variables)))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, expected)


MASKABLE = {
    name: OPTIMIZERS[name] for name in ("adam", "adamw with a schedule", "sgd with momentum")
} | {"factored rms, whole": optax.scale_by_factored_rms(factored=False)}


@pytest.mark.parametrize("name", MASKABLE)
def test_the_next_step_is_that_of_the_masked_network(name: str) -> None:
    variables, tx = variables_of(True), MASKABLE[name]
    prune, state = pruned(variables), trained(tx, variables)
    small = prune.variables(variables)
    small_state = prune.optimizer_state(tx, state)

    @functools.partial(jax.jit, static_argnums=0)
    def step(function: Any, at: Any, state: Any, variables: Any) -> Any:
        gradients = jax.grad(lambda params: jnp.sum(jnp.square(function(params, ROWS))))(at)
        return tx.update(gradients, state, variables)[0]

    updates = step(prune.function(apply), small, small_state, small)
    expected = step(apply, masked_variables(variables), state, variables)
    close(updates, prune.variables(expected), 1e-5)


def masked_variables(variables: Any) -> Any:
    """Return the variables whose every second hidden channel gives nothing on."""
    leaves = {name: np.array(leaf) for name, leaf in variables["params"].items()}
    leaves["second"][1::2] = 0
    leaves["third"][1::2] = 0
    return {"params": leaves}


def test_the_state_of_an_nnx_optimizer() -> None:
    model = nnx.Sequential(
        nnx.Linear(4, 6, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(6, 2, rngs=nnx.Rngs(1))
    )
    for tx in (optax.adam(1e-2), optax.adafactor(1e-2, min_dim_size_to_factor=2)):
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        function, variables = from_nnx(model)
        graph = trace(function, variables, ROWS)
        prune = shrink(graph, {"layers/0/kernel[1]": np.arange(6) < 3})
        after = prune.optimizer_state(tx, nnx.state(optimizer))
        small = nnx.merge(nnx.graphdef(model), prune.variables(variables))
        expected = nnx.state(nnx.Optimizer(small, tx, wrt=nnx.Param))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, expected)
