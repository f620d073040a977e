"""Which outputs are new values of leaves: what is plain, what is said, and what only looks so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.prune import shrink

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
VARIABLES = {
    "params": {"features": jnp.ones((4, 8)), "last": jnp.ones((8, 2))},
    "stats": {"mean": jnp.zeros(8), "count": jnp.zeros(())},
}
FEATURES = "params/features[1]"


def widths(graph: Graph) -> dict[str, int]:
    return {name: group.width for name, group in graph.groups.items()}


def halved(graph: Graph) -> Compression:
    return shrink(graph, {name: np.arange(g.width) < 3 for name, g in graph.groups.items()})


def run(variables: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Return the features, the logits, and new statistics."""
    hidden = rows @ variables["params"]["features"] - variables["stats"]["mean"]
    new = {"mean": hidden.mean(0), "count": variables["stats"]["count"] + 1}
    features = jnp.tanh(hidden)
    return features, features @ variables["params"]["last"], new


NAMED_LIKE_LEAVES: dict[str, Callable[..., Any]] = {
    "key": lambda v, x: {"logits": run(v, x)[1], "features": run(v, x)[0]},
    "collection": lambda v, x: (run(v, x)[1], {"params": {"features": run(v, x)[0]}}),
    "nested": lambda v, x: {"logits": run(v, x)[1], "aux": {"params": {"features": run(v, x)[0]}}},
    "part of a collection": lambda v, x: {
        "logits": run(v, x)[1],
        "stats": {"mean": run(v, x)[2]["mean"]},
    },
    "more than a collection": lambda v, x: {
        "logits": run(v, x)[1],
        "stats": {**run(v, x)[2], "features": run(v, x)[0]},
    },
    "without its collection": lambda v, x: (run(v, x)[1], run(v, x)[2]),
}


@pytest.mark.parametrize("name", NAMED_LIKE_LEAVES)
def test_an_output_that_looks_like_a_leaf_keeps_its_shape(name: str) -> None:
    apply = NAMED_LIKE_LEAVES[name]
    graph = trace(apply, VARIABLES, ROWS)
    assert widths(graph) == {}
    assert any("say so by state=" in entry.reason for entry in graph.frozen)
    prune = halved(graph)
    small = prune.function(apply)(prune.variables(VARIABLES), ROWS)
    assert jax.tree.map(jnp.shape, small) == jax.tree.map(jnp.shape, apply(VARIABLES, ROWS))


PLAIN: dict[str, Callable[..., Any]] = {
    "pair": lambda v, x: (run(v, x)[1], {"stats": run(v, x)[2]}),
    "dict": lambda v, x: {"logits": run(v, x)[1], "stats": run(v, x)[2]},
    "nested pairs": lambda v, x: (run(v, x)[1].sum(), (run(v, x)[1], {"stats": run(v, x)[2]})),
    "variables": lambda v, x: {**v, "stats": run(v, x)[2]},
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_whole_collection_is_new_state(name: str) -> None:
    graph = trace(PLAIN[name], VARIABLES, ROWS)
    assert widths(graph) == {FEATURES: 8}
    prune = halved(graph)
    small = prune.function(PLAIN[name])(prune.variables(VARIABLES), ROWS)
    means = [leaf.shape for path, leaf in jax.tree.leaves_with_path(small) if "mean" in str(path)]
    assert means == [(3,)]


SAID: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "under its collection": (
        NAMED_LIKE_LEAVES["part of a collection"],
        lambda r: {"stats": r["stats"]},
    ),
    "without its collection": (NAMED_LIKE_LEAVES["without its collection"], lambda r: r[1]),
    "by path": (
        lambda v, x: (run(v, x)[1], run(v, x)[2]["mean"]),
        lambda r: {"stats/mean": r[1]},
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_to_be_new_state_shrinks_with_its_leaf(name: str) -> None:
    apply, state = SAID[name]
    graph = trace(apply, VARIABLES, ROWS, state=state)
    assert widths(graph) == {FEATURES: 8}
    prune = halved(graph)
    small = prune.variables(VARIABLES)
    new = jax.tree.leaves(state(prune.function(apply)(small, ROWS)))
    assert {leaf.shape for leaf in new} <= {(3,), ()}


def test_saying_that_nothing_is_new_state_freezes_all_outputs() -> None:
    assert widths(trace(PLAIN["pair"], VARIABLES, ROWS, state=lambda result: ())) == {}
    assert widths(trace(PLAIN["pair"], VARIABLES, ROWS, output=lambda result: result)) == {}


def test_wrong_state_is_named() -> None:
    apply = lambda v, x: {"logits": run(v, x)[1], "features": run(v, x)[0]}  # noqa: E731
    with pytest.raises(ValueError, match=r"params/last is \(4, 8\) and params/last \(8, 2\)"):
        trace(apply, VARIABLES, ROWS, state=lambda result: {"params": {"last": result["features"]}})
    with pytest.raises(ValueError, match="other names no leaf.*the keys of the variables, e.g."):
        trace(apply, VARIABLES, ROWS, state=lambda result: {"other": result["features"]})
    with pytest.raises(ValueError, match=r"both pick \['features'\]"):
        both = lambda result: {"features": result["features"]}  # noqa: E731
        variables = {**VARIABLES, "params": {**VARIABLES["params"], "features": jnp.ones((4, 8))}}
        trace(apply, variables, ROWS, output=both, state=both)


def test_state_that_does_not_follow_its_leaf_is_made_to() -> None:
    def reset(variables: Any, rows: jax.Array) -> Any:
        return run(variables, rows)[1], {"stats": {"mean": jnp.zeros(8), "count": jnp.zeros(())}}

    prune = halved(trace(reset, VARIABLES, ROWS))
    assert prune.function(reset)(prune.variables(VARIABLES), ROWS)[1]["stats"]["mean"].shape == (3,)
