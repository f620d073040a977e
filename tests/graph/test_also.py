"""Several functions of the same variables in one graph: their leaves shrink together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.graph import Also, Graph, trace
from jaxcompress.prune import gated, shrink
from tests.laws import close, differentiated, gates_of, random_keep
from tests.toys.record import draw, rows

ROWS = rows(4, 3)
VARIABLES = {
    "params": draw(0, {"first": (3, 8), "scale": (8,), "head": (8, 5), "last": (5, 2)}),
    "state": draw(1, {"hidden": (8,), "average": (8,), "counter": ()}),
    "side": draw(2, {"first": (5, 6), "last": (6, 3)}),
}
FIRST, HEAD, SIDE = "params/first[1]", "params/head[1]", "side/first[1]"


def evaluate(variables: Any, inputs: jax.Array) -> jax.Array:
    """Read the debiased average alone, as Haiku's BatchNorm does."""
    params = variables["params"]
    hidden = (inputs @ params["first"] - variables["state"]["average"]) * params["scale"]
    return jnp.tanh(jnp.tanh(hidden) @ params["head"]) @ params["last"]


def train(variables: Any, inputs: jax.Array) -> Any:
    """Read and write the raw moving average, and run an auxiliary head."""
    params, state = variables["params"], variables["state"]
    projected = inputs @ params["first"]
    count = state["counter"] + 1
    hidden = 0.9 * state["hidden"] + 0.1 * projected.mean(0)
    new = {"hidden": hidden, "average": hidden / (1 - 0.9**count), "counter": count}
    head = jnp.tanh(jnp.tanh((projected - projected.mean(0)) * params["scale"]) @ params["head"])
    side = jnp.tanh(head @ variables["side"]["first"]) @ variables["side"]["last"]
    return {"logits": head @ params["last"], "side": side}, {"state": new}


@pytest.fixture(scope="module")
def together() -> Graph:
    return trace(evaluate, VARIABLES, ROWS, also=[(train, (ROWS,))])


def paths(graph: Graph, name: str) -> list[str]:
    return [member.path for member in graph.groups[name].members]


def test_the_leaves_of_all_functions_join_the_groups(together: Graph) -> None:
    alone = trace(evaluate, VARIABLES, ROWS)
    assert list(together.groups) == list(alone.groups) == [FIRST, HEAD]
    assert "state/hidden" in paths(together, FIRST) and "state/hidden" not in paths(alone, FIRST)
    assert "side/first" in paths(together, HEAD) and "side/first" not in paths(alone, HEAD)


def test_costs_sites_and_consumers_are_those_of_the_first(together: Graph) -> None:
    alone = trace(evaluate, VARIABLES, ROWS)
    assert together.flops == alone.flops and together.params == alone.params
    assert (together.sites, together.uses) == (alone.sites, alone.uses)
    for name, group in alone.groups.items():
        assert together.groups[name].consumers == group.consumers


def test_what_only_another_function_sums_over_stays(together: Graph) -> None:
    frozen = [f for f in together.frozen if (f.path, f.axis) == ("side/first", 1)]
    assert [f.number for f in frozen] == [6] and "trace that one first" in frozen[0].reason
    other = trace(train, VARIABLES, ROWS, also=[(evaluate, (ROWS,))])
    assert list(other.groups) == [FIRST, HEAD, SIDE]
    assert "state/average" in paths(other, FIRST)


def test_leaves_that_nothing_reads_are_named(together: Graph) -> None:
    alone = trace(evaluate, VARIABLES, ROWS)
    assert alone.unread == ("side/first", "side/last", "state/counter", "state/hidden")
    assert together.unread == ()
    assert "no traced function (pass those that do as also=): side/first, side/last" in str(alone)
    assert "no traced function" not in str(together)


def test_handing_a_leaf_on_is_no_reading() -> None:
    def handed_on(variables: Any, inputs: jax.Array) -> Any:
        inner = jax.jit(lambda tree, rows: (evaluate(tree, rows), tree["state"]))
        output, state = inner(variables, inputs)
        return output, {"state": state}

    assert trace(handed_on, VARIABLES, ROWS).unread == trace(evaluate, VARIABLES, ROWS).unread
    looped = lambda v, x: jax.lax.scan(lambda c, r: (c, r @ v["first"]), v["last"], x)  # noqa: E731
    variables = {"first": jnp.ones((3, 4)), "last": jnp.ones((4,))}
    assert trace(looped, variables, ROWS).unread == ("last",)


def test_mask_is_shrink_in_both_functions(together: Graph) -> None:
    keep = random_keep(together, seed=1)
    prune, gates = shrink(together, keep), gates_of(together, keep)
    small = prune.variables(VARIABLES)
    for function in (evaluate, train):
        masked = gated(together, function)
        whole = differentiated(lambda v, x, masked=masked: masked(v, gates, x))(VARIABLES, ROWS)
        output, state, gradient, others = differentiated(prune.function(function))(small, ROWS)
        close((output, others), (whole[0], whole[3]), 1e-5)
        close(gradient, prune.variables(whole[2]), 1e-5)
        if state:
            taken = prune.variables({**VARIABLES, **whole[1]})
            close(state, {"state": taken["state"]}, 1e-5)
            assert _shapes(state["state"]) == _shapes(small["state"])


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in tree.items()}


def test_a_function_that_was_not_traced_is_refused_with_the_way_out() -> None:
    prune = shrink(trace(evaluate, VARIABLES, ROWS), {FIRST: np.arange(8) < 4})
    with pytest.raises(ValueError, match=r"state/hidden\[0\] index 4 \(kept\).*also="):
        prune.function(train)(prune.variables(VARIABLES), ROWS)


def test_entries_say_what_their_outputs_are() -> None:
    features = lambda v, x: (jnp.tanh(x @ v["params"]["first"]), v["state"]["hidden"] * 2)  # noqa: E731
    assert list(trace(evaluate, VARIABLES, ROWS, also=[(features, (ROWS,))]).groups) == [HEAD]
    entry = Also(features, (ROWS,), output=lambda result: (), state=lambda r: {"hidden": r[1]})
    assert list(trace(evaluate, VARIABLES, ROWS, also=[entry]).groups) == [FIRST, HEAD]
    bare: Any = (features, ROWS)
    with pytest.raises(TypeError, match=r"entry 1 is \(function, .*\); write \(function, \(inputs"):
        trace(evaluate, VARIABLES, ROWS, also=[entry, bare])
