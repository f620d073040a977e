"""State handed in as an input and out again: its widths shrink with the variables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.compression import chain
from jaxcompress.graph import Also, Graph, trace
from jaxcompress.prune import gated, shrink, shrink_inputs
from tests.laws import close, difference, gates_of, random_keep
from tests.toys.record import draw, rows

ROWS = rows(4, 3)
WIDTH, HEADS, SIZE = 6, 3, 2


def names(graph: Graph) -> dict[str, int]:
    return {name: group.width for name, group in graph.groups.items()}


def lstm(variables: Any, carry: Any, inputs: jax.Array) -> Any:
    """A cell whose gates are separate kernels, as Flax writes them."""
    cell, hidden = carry
    gate = lambda name: inputs @ variables[f"in_{name}"] + hidden @ variables[f"own_{name}"]  # noqa: E731
    cell = jax.nn.sigmoid(gate("f")) * cell + jax.nn.sigmoid(gate("i")) * jnp.tanh(gate("g"))
    hidden = jax.nn.sigmoid(gate("o")) * jnp.tanh(cell)
    return (cell, hidden), hidden @ variables["out"]


def attention(variables: Any, inputs: jax.Array, cache: Any) -> Any:
    """One token that attends to a cache of keys and values [batch, time, heads, size]."""
    split = lambda name: (inputs @ variables[name]).reshape(-1, 1, HEADS, SIZE)  # noqa: E731
    add = lambda name: jnp.concatenate([cache[name][:, 1:], split(name)], 1)  # noqa: E731
    new = {name: add(name) for name in ("key", "value")}
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", split("query"), new["key"]))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, new["value"])
    return {"out": mixed.reshape(-1, WIDTH) @ variables["out"], "cache": new}


def vectors(variables: Any, carry: jax.Array, inputs: jax.Array) -> Any:
    """A carry without an axis of examples, which meets itself before any kernel."""
    carry = jnp.tanh(carry * (carry @ carry) + inputs.mean(0) @ variables["in"])
    return carry, inputs @ variables["first"] @ (variables["out"] * carry[:, None])


LSTM = {f"in_{n}": (3, WIDTH) for n in "figo"} | {f"own_{n}": (WIDTH, WIDTH) for n in "figo"}
KERNELS = {name: (3, WIDTH) for name in ("query", "key", "value")}
CACHE = {"key": rows(4, 5, HEADS, SIZE, seed=3), "value": rows(4, 5, HEADS, SIZE, seed=4)}
CASES: dict[str, Any] = {
    "lstm": (
        lstm,
        draw(0, {**LSTM, "out": (WIDTH, 2)}),
        ((rows(4, WIDTH, seed=1), rows(4, WIDTH, seed=2)), ROWS),
        lambda result: {0: result[0]},
        {"in_f[1]": WIDTH},
    ),
    "cache": (
        attention,
        draw(1, {**KERNELS, "out": (WIDTH, 2)}),
        (ROWS, CACHE),
        lambda result: {1: result["cache"]},
        {"key[1]": HEADS},
    ),
    "vector": (
        vectors,
        draw(2, {"in": (3, WIDTH), "first": (3, WIDTH), "out": (WIDTH, 2)}),
        (rows(WIDTH, seed=5), ROWS),
        lambda result: {0: result[0]},
        {"first[1]": WIDTH},
    ),
}


def traced(name: str) -> tuple[Graph, Any, Any, Any]:
    function, variables, inputs, state, _ = CASES[name]
    # The vector's one axis is none of examples.
    axis = None if name == "vector" else 0
    graph = trace(function, variables, *inputs, state=state, batch_axis=axis)
    return graph, function, variables, inputs


@pytest.mark.parametrize("name", CASES)
def test_the_widths_of_a_carry_are_offered(name: str) -> None:
    function, variables, inputs, _, groups = CASES[name]
    assert names(traced(name)[0]) == groups
    assert names(trace(function, variables, *inputs)) == {}
    assert "handed in and out" in str(traced(name)[0])


@pytest.mark.parametrize("name", CASES)
def test_mask_is_shrink_over_two_steps(name: str) -> None:
    graph, function, variables, inputs = traced(name)
    prune = shrink(graph, keep := random_keep(graph))
    small, small_inputs = prune.variables(variables), shrink_inputs(prune, *inputs)
    masked = lambda *inputs: gated(graph, function)(variables, gates_of(graph, keep), *inputs)  # noqa: E731
    shrunk = jax.jit(lambda *inputs: prune.function(function)(small, *inputs))
    place = list(CASES[name][3](masked(*inputs)))[0]
    for _ in range(2):
        outputs, small_outputs = masked(*inputs), shrunk(*small_inputs)
        assert difference(outputs, function(variables, *inputs)) > 1e-3
        carry, small_carry = (CASES[name][3](o)[place] for o in (outputs, small_outputs))
        inputs = tuple(carry if i == place else array for i, array in enumerate(inputs))
        close(small_carry, shrink_inputs(prune, *inputs)[place], 1e-5)
        close(_without(small_outputs, small_carry), _without(outputs, carry), 1e-5)
        before = jax.tree.map(jnp.shape, small_inputs[place])
        assert before == jax.tree.map(jnp.shape, small_carry)
        small_inputs = tuple(small_carry if i == place else o for i, o in enumerate(small_inputs))


def _without(outputs: Any, carry: Any) -> list[Any]:
    known = {id(leaf) for leaf in jax.tree.leaves(carry)}
    return [leaf for leaf in jax.tree.leaves(outputs) if id(leaf) not in known]


def test_the_spec_holds_what_becomes_of_inputs() -> None:
    graph, function, variables, inputs = traced("lstm")
    prune = shrink(graph, {"in_f[1]": np.arange(WIDTH) < 4})
    again = from_spec(prune.spec)
    assert list(again.spec["inputs"]) == ["0/0", "0/1"]
    small_inputs, small = shrink_inputs(again, *inputs), again.variables(variables)
    smaller = again.function(function)
    state = CASES["lstm"][3]
    second = shrink(
        trace(smaller, small, *small_inputs, state=state), {"in_f[1]": np.arange(4) < 2}
    )
    both = chain(prune, second)
    (cell, _), out = both.function(function)(
        both.variables(variables), *shrink_inputs(both, *inputs)
    )
    assert cell.shape == (4, 2) and out.shape == (4, 2)


def test_a_carry_of_the_old_size_is_refused_with_the_new() -> None:
    graph, function, variables, inputs = traced("lstm")
    prune = shrink(graph, {"in_f[1]": np.arange(WIDTH) < 4})
    message = r"input 0/0: \(4, 6\), expected \(4, 4\); input 0/1.*shrink_inputs"
    with pytest.raises(ValueError, match=message):
        prune.function(function)(prune.variables(variables), *inputs)
    with pytest.raises(ValueError, match=r"input 0/0: missing; input 0/1: missing"):
        shrink_inputs(prune, ROWS)
    with pytest.raises(ValueError, match=r"input 0/0: \(4, 4\), traced as \(4, 6\)"):
        shrink_inputs(prune, *shrink_inputs(prune, *inputs))


def test_other_functions_take_their_own_inputs() -> None:
    graph, function, variables, inputs = traced("lstm")
    prune = shrink(graph, {"in_f[1]": np.arange(WIDTH) < 4})
    other = prune.function(lambda v, x: jnp.tanh(x @ v["in_f"]) @ v["out"])
    assert other(prune.variables(variables), ROWS).shape == (4, 2)


def test_gates_reach_a_carry_at_another_place() -> None:
    graph, function, variables, (carry, x) = traced("lstm")
    gates = gates_of(graph, {"in_f[1]": np.arange(WIDTH) < 4})
    moved = gated(graph, lambda v, x, carry: function(v, carry, x))(variables, gates, x, carry)
    close(moved, gated(graph, function)(variables, gates, carry, x), 1e-6)


def test_another_function_may_carry_state() -> None:
    function, variables, inputs, state, _ = CASES["lstm"]
    whole = lambda v, x: function(v, (jnp.zeros((4, WIDTH)),) * 2, x)[1]  # noqa: E731
    graph = trace(whole, variables, ROWS, also=[Also(function, inputs, None, state)])
    assert names(graph) == {"in_f[1]": WIDTH}
    prune = shrink(graph, {"in_f[1]": np.arange(WIDTH) < 4})
    small = prune.variables(variables)
    (cell, _), out = prune.function(function)(small, *shrink_inputs(prune, *inputs))
    assert cell.shape == (4, 4)
    assert prune.function(whole)(small, ROWS).shape == out.shape
