"""Optimizer states that are not shaped like their parameter: factors and histories."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress.compression import Compression, RestartedState
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.prune import shrink
from tests.compression.optimizers import (
    ROWS,
    SHAPES,
    apply,
    pruned,
    trained,
    variables_of,
    walk,
)

OTHER_SHAPES = {
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=2, momentum=0.9),
    "adafactor, factored no more": optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "labelled adafactor": optax.multi_transform(
        {"first": optax.adafactor(1e-2, min_dim_size_to_factor=2), "other": optax.sm3(1e-2)}, walk
    ),
    "sm3": optax.sm3(1e-2),
    "lbfgs": optax.lbfgs(memory_size=3, linesearch=None),
    "within an accumulation": optax.MultiSteps(
        optax.adafactor(1e-2, min_dim_size_to_factor=2), 4
    ).gradient_transformation(),
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
    expected = jax.eval_shape(tx.init, small)
    structure: Any = jax.tree.structure(new)
    assert structure == jax.tree.structure(expected)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, expected)
    updates, _ = jax.jit(tx.update)(jax.tree.map(np.sin, small), new, small)
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
    expected = np.outer(row / np.mean(row), column)
    np.testing.assert_allclose(after.v["first"], expected[:, :3], rtol=1e-6)
    assert after.v_row["first"].shape == (1,)


def test_a_history_restarts_with_a_warning_that_names_it() -> None:
    variables, tx = variables_of(False), optax.lbfgs(memory_size=3, linesearch=None)
    state = jax.jit(lambda leaves: jax.tree.map(jnp.ones_like, tx.init(leaves)))(variables)
    with pytest.warns(RestartedState, match="states at '0' start again from zero"):
        after = pruned(variables).optimizer_state(tx, state)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(after[0]))
