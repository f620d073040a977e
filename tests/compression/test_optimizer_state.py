"""Optimizer states shrink with the leaves they mirror, whatever the optimizer's structure."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxcompress.adapters import from_nnx
from jaxcompress.compression import Compression, RestartedState, chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.prune import shrink
from tests.laws import close

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


def walk(tree: Any) -> Any:
    """Label a tree of dicts by its keys, as optax's documentation does."""
    return {
        key: walk(child) if isinstance(child, dict) else "first" if key == "third" else "other"
        for key, child in tree.items()
    }


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
    "labelled by walking": optax.multi_transform(
        {"first": optax.adam(1e-2), "other": optax.sgd(1e-2, momentum=0.9)}, lambda tree: walk(tree)
    ),
    "adafactor, not factored": optax.adafactor(1e-2),
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
    structure: Any = jax.tree.structure(shrunk_state)
    assert structure == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, shrunk_state) == jax.tree.map(jnp.shape, expected)
    tx.update(jax.tree.map(jnp.ones_like, small), shrunk_state, small)
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
    after = prune.optimizer_state(tx, tx.init(part(variables)))
    expected = tx.init(part(prune.variables(variables)))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, expected)


OTHER_SHAPES = {
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=2, momentum=0.9),
    "adafactor, factored no more": optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "labelled adafactor": optax.multi_transform(
        {"first": optax.adafactor(1e-2, min_dim_size_to_factor=2), "other": optax.sm3(1e-2)}, walk
    ),
    "sm3": optax.sm3(1e-2),
    "lbfgs": optax.lbfgs(memory_size=3, linesearch=None),
}
ALONE = {
    "adafactor, labels given": optax.multi_transform(
        {"first": optax.adafactor(1e-2, min_dim_size_to_factor=2), "other": optax.adam(1e-2)},
        walk(dict.fromkeys(SHAPES)),
    )
}


def stepped(compression: Compression, tx: Any, state: Any, small: Any) -> Any:
    """Take a step with what a compression leaves of a state, whose structure must be right."""
    new = compression.optimizer_state(tx, state)
    expected = tx.init(small)
    structure: Any = jax.tree.structure(new)
    assert structure == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, expected)
    updates, _ = tx.update(jax.tree.map(jnp.sin, small), new, small)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))
    return new


@pytest.mark.filterwarnings("ignore:a history of updates")
@pytest.mark.parametrize("part", [None, "params", "variables"])
@pytest.mark.parametrize("name", [*OTHER_SHAPES, *ALONE])
def test_states_not_shaped_like_their_parameter_take_the_next_step(
    name: str, part: str | None
) -> None:
    if name in ALONE and part == "variables":
        pytest.skip("the labels are of the bare leaves")
    tx, variables = (OTHER_SHAPES | ALONE)[name], variables_of(part is not None)
    prune = pruned(variables)
    lowrank = factorize(trace(apply, variables, ROWS), {f"{'params/' * bool(part)}second": 2})
    select = (lambda tree: tree["params"]) if part == "params" else (lambda tree: tree)
    state = trained(tx, select(variables))
    stepped(prune, tx, state, select(prune.variables(variables)))
    if name not in ALONE:
        stepped(lowrank, tx, state, select(lowrank.variables(variables)))


def test_rows_and_columns_follow_the_axes_that_they_have() -> None:
    variables, tx = variables_of(False), optax.adafactor(1e-2, min_dim_size_to_factor=2)
    state = trained(tx, variables)
    keep = {"first[1]": np.array([1, 0, 1, 0, 0, 0], bool)}
    prune = shrink(trace(apply, variables, ROWS), keep)
    before, after = state[0], prune.optimizer_state(tx, state)[0]
    # 4 x 6 became 4 x 2: the rows are now what the columns were.
    np.testing.assert_array_equal(after.v_col["first"], before.v_row["first"])
    np.testing.assert_array_equal(after.v_row["first"], before.v_col["first"][::2][:2])
    np.testing.assert_array_equal(after.v_row["third"], before.v_row["third"])


def test_a_leaf_factored_no_more_has_the_moment_that_its_factors_stood_for() -> None:
    variables, tx = variables_of(False), optax.scale_by_factored_rms(min_dim_size_to_factor=4)
    state, keep = trained(tx, variables), {"first[1]": np.arange(6) < 3}
    prune = shrink(trace(apply, variables, ROWS), keep)
    after = prune.optimizer_state(tx, state)
    row, column = state.v_row["first"], state.v_col["first"]
    expected = np.outer(row / row.mean(), column)
    np.testing.assert_allclose(after.v["first"], expected[:, :3], rtol=1e-6)
    assert after.v_row["first"].shape == (1,)


MASKABLE = {
    name: OPTIMIZERS[name] for name in ("adam", "adamw with a schedule", "sgd with momentum")
} | {"factored rms, whole": optax.scale_by_factored_rms(factored=False)}


@pytest.mark.parametrize("name", MASKABLE)
def test_the_next_step_is_that_of_the_masked_network(name: str) -> None:
    variables, tx = variables_of(True), MASKABLE[name]
    prune, state = pruned(variables), trained(tx, variables)
    small = prune.variables(variables)
    whole = jax.grad(lambda params: jnp.sum(jnp.square(apply(params, ROWS))))(
        jax.tree.map(jnp.asarray, masked_variables(variables))
    )
    gradients = jax.grad(lambda params: jnp.sum(jnp.square(prune.function(apply)(params, ROWS))))(
        small
    )
    updates, _ = tx.update(gradients, prune.optimizer_state(tx, state), small)
    expected, _ = tx.update(whole, state, variables)
    close(updates, prune.variables(expected), 1e-5)


def masked_variables(variables: Any) -> Any:
    """Return the variables whose every second hidden channel gives nothing on."""
    leaves = dict(variables["params"])
    leaves["second"] = leaves["second"].at[1::2].set(0)
    leaves["third"] = leaves["third"].at[1::2].set(0)
    return {"params": leaves}


def test_a_history_restarts_with_a_warning_that_names_it() -> None:
    variables, tx = variables_of(False), optax.lbfgs(memory_size=3, linesearch=None)
    state = jax.tree.map(jnp.ones_like, tx.init(variables))
    with pytest.warns(RestartedState, match="states at '0' start again from zero"):
        after = pruned(variables).optimizer_state(tx, state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(after[0]))


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
