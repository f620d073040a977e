"""Whole branches and layers: chosen, removed, saved, masked, factorized and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress.artifact import Encoding
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training import init_state, restore_checkpoint, save_checkpoint
from tests.laws import close, same
from tests.toys.record import draw, rows

INPUTS = rows(6, 4)
SHAPES = {"embed": (4, 8), "up": (2, 8, 6), "down": (2, 6, 8), "head": (8, 3)}


def branches(variables: Any, x: jax.Array) -> jax.Array:
    """Two residual branches, written one after the other."""
    stream = x @ variables["embed"]
    for number in range(2):
        hidden = jnp.tanh(stream @ variables[f"up{number}"])
        stream = stream + hidden @ variables[f"down{number}"]
    return stream @ variables["head"]


def unrolled() -> dict[str, jax.Array]:
    drawn = draw(3, SHAPES)
    layers = {f"{name}{n}": drawn[name][n] for name in ("up", "down") for n in range(2)}
    return {"embed": drawn["embed"], **layers, "head": drawn["head"]}


VARIABLES = unrolled()
GRAPH = jc.trace(branches, VARIABLES, INPUTS)
SCORES = {"down0[1]": np.arange(8) + 9.0, "up0[1]": np.arange(6) + 1.0, "up1[1]": np.full(6, 0.1)}


def loss(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.square(branches(variables, x)).mean()


def test_a_branch_is_optional_and_a_chain_is_not() -> None:
    assert GRAPH.optional == ["up0[1]", "up1[1]"]
    with pytest.raises(ValueError, match=r"\['down0\[1\]'\] keep none; .* graph.optional"):
        jc.shrink(GRAPH, {"down0[1]": np.zeros(8, bool)})


@pytest.mark.parametrize("least", [0, 1])
def test_the_worst_branch_goes_first_and_wholly_only_where_it_may(least: int) -> None:
    keep = jc.select(GRAPH, SCORES, jc.Budget(params=0.6), min_width=least)
    assert int(keep["up1[1]"].sum()) == least
    assert int(keep["down0[1]"].sum()) == 8
    cost, widths = GRAPH.cost, GRAPH.cost.widths(keep)
    assert float(cost.params(widths)) <= 0.6 * GRAPH.params
    inside = jax.jit(
        lambda scores: jc.threshold(cost, scores, jc.Budget(params=0.6).of(GRAPH), min_width=least)
    )({name: jnp.asarray(score) for name, score in SCORES.items()})
    same({n: np.asarray(gate) > 0 for n, gate in inside.items()}, keep)


@pytest.fixture(scope="module")
def prune() -> jc.Compression:
    return jc.shrink(GRAPH, {"up1[1]": np.zeros(6, bool), "up0[1]": np.arange(6) < 4})


@pytest.mark.parametrize("encoding", [None, Encoding("int8"), Encoding("bfloat16")])
def test_nothing_is_stored_of_a_branch_that_is_gone(
    prune: jc.Compression, tmp_path: Path, encoding: Encoding | None
) -> None:
    small = prune.variables(VARIABLES)
    assert small["up1"].shape == (8, 0) and small["down1"].shape == (0, 8)
    jc.save(tmp_path / "network", prune, small, encoding=encoding)
    function, variables = jc.load(tmp_path / "network", branches)
    tolerance = 0.0 if encoding is None else 0.05
    expected = prune.function(branches)(small, INPUTS)
    close(function(variables, INPUTS), expected, tolerance)


def test_what_is_left_is_a_network_like_any_other(prune: jc.Compression) -> None:
    small, apply = prune.variables(VARIABLES), prune.function(branches)
    graph = jc.trace(apply, small, INPUTS)
    assert list(graph.groups) == ["down0[1]", "up0[1]"] and not graph.sites["up1"].forms
    scores = jc.importance.taylor(graph, prune.function(loss), small, INPUTS[None])
    again = jc.shrink(graph, jc.select(graph, scores, jc.Budget(flops=0.8)))
    both = jc.chain(prune, again)
    same(both.variables(VARIABLES), again.variables(small))
    masks = jc.sparse.make_masks(small, 0.5)
    assert {path for path, mask in flatten_with_paths(masks)[0].items() if np.ndim(mask)} == {
        "embed",
        "up0",
        "down0",
        "head",
    }
    tx = optax.adamw(1e-2)
    state = prune.optimizer_state(tx, jax.jit(tx.init)(VARIABLES))
    gradient = jax.jit(jax.grad(prune.function(loss)))(small, INPUTS)
    updates, _ = jax.jit(tx.update)(gradient, state, small)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, small)


def test_a_network_without_a_branch_is_checkpointed(prune: jc.Compression, tmp_path: Path) -> None:
    state = init_state(prune.variables(VARIABLES), optax.adam(1e-2))
    save_checkpoint(tmp_path / "run", state)
    restored = restore_checkpoint(tmp_path / "run", state)
    assert jax.tree.map(jnp.shape, restored) == jax.tree.map(jnp.shape, state)
    same(restored, state)
