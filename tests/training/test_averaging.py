"""An average of the variables over the steps, by optax alone: a tree of variables like others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import parallel
from jaxcompress.graph import trace
from jaxcompress.prune import shrink
from jaxcompress.training import (
    TrainState,
    init_state,
    jit_step,
    restore_checkpoint,
    saving_behind,
    train_step,
)
from tests.laws import close

KEY, DECAY, TX = jax.random.key(0), 0.9, optax.sgd(0.1, momentum=0.9)
ROWS = jax.random.normal(KEY, (16, 4))
MESH = parallel.mesh()


def drawn(number: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


VARIABLES = {
    "params": {"first": drawn(1, 4, 6), "second": drawn(2, 6, 3)},
    "batch_stats": {"mean": jnp.zeros(6)},
}


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    hidden = rows @ variables["params"]["first"] - variables["batch_stats"]["mean"]
    return jnp.tanh(hidden) @ variables["params"]["second"]


def loss(variables: Any, rows: jax.Array, key: jax.Array) -> Any:
    mean = (rows @ variables["params"]["first"]).mean(0)
    now = {**variables, "batch_stats": {"mean": mean}}
    running = {"mean": 0.9 * variables["batch_stats"]["mean"] + 0.1 * mean}
    return jnp.square(apply(now, rows) - 1).mean(), ({"batch_stats": running}, {})


averaged = jax.jit(optax.incremental_update)


def run(
    state: TrainState, average: Any, steps: int, many: bool = False
) -> tuple[TrainState, Any, list[Any]]:
    """Train as docs/devices.md has it, and return all variables on the way."""
    step = jit_step(train_step(loss, TX), MESH) if many else jax.jit(train_step(loss, TX))
    rows, seen = parallel.shard_batch(ROWS, MESH) if many else ROWS, []
    for _ in range(steps):
        state, _ = step(state, rows, KEY)
        average = averaged(state.variables, average, 1 - DECAY)
        seen.append(jax.tree.map(np.asarray, state.variables))
    return state, average, seen


@pytest.mark.parametrize("many", [False, True])
def test_it_is_the_exponential_average_of_all_variables(many: bool) -> None:
    _, average, seen = run(init_state(VARIABLES, TX), VARIABLES, 5, many)
    shares = [DECAY**5, *((1 - DECAY) * DECAY ** (4 - number) for number in range(5))]
    desired = jax.tree.map(
        lambda *leaves: sum(share * leaf for share, leaf in zip(shares, leaves, strict=True)),
        VARIABLES,
        *seen,
    )
    close(average, desired, 1e-6)
    assert np.abs(average["params"]["first"] - seen[-1]["params"]["first"]).max() > 1e-3


def test_it_shrinks_as_the_variables_do() -> None:
    graph = trace(apply, VARIABLES, ROWS)
    prune = shrink(graph, {n: np.arange(g.width) % 2 == 0 for n, g in graph.groups.items()})
    state, average, _ = run(init_state(VARIABLES, TX), VARIABLES, 3)
    both = [prune.variables(tree) for tree in (state.variables, average)]
    assert both[0]["batch_stats"]["mean"].shape == (3,)
    # An average is linear, so that it may be taken before or after.
    close(averaged(*both, 1 - DECAY), prune.variables(averaged(state.variables, average, 0.1)), 0)
    small = prune.function(apply)(both[1], ROWS)
    dropped = jnp.arange(6) % 2 == 0
    masked = {**average["params"], "second": average["params"]["second"] * dropped[:, None]}
    close(small, apply({**average, "params": masked}, ROWS), 1e-6)


def test_a_run_goes_on_with_its_average(tmp_path: Path) -> None:
    whole = run(init_state(VARIABLES, TX), VARIABLES, 5)
    state, average, _ = run(init_state(VARIABLES, TX), VARIABLES, 2)
    with saving_behind(tmp_path / "run") as save:
        save((state, average), step=2)
    start = init_state(VARIABLES, TX)
    state, average = restore_checkpoint(tmp_path / "run", (start, VARIABLES))
    continued = run(state, average, 3)
    jax.tree.map(np.testing.assert_array_equal, continued[:2], whole[:2])
