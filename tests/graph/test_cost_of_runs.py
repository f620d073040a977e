"""Costs that depend on how often code runs: loops, branches, and what a whole batch shares."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxcompress.graph import trace

VARIABLES = {"w": jnp.ones((4, 4)), "u": jnp.ones((4, 4)), "p": jnp.ones((1, 4))}
ROUND = 2 * 4 * 4


def grow(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["w"])


LOOPS: dict[str, tuple[Any, int]] = {
    "a known bound": (lambda v, x: lax.fori_loop(0, jnp.int32(3), lambda _, h: grow(v, h), x), 3),
    "from two": (lambda v, x: lax.fori_loop(2, jnp.int32(9), lambda _, h: grow(v, h), x), 7),
    "by two": (
        lambda v, x: lax.while_loop(
            lambda s: s[0] < 7, lambda s: (s[0] + 2, grow(v, s[1])), (0, x)
        )[1],
        4,
    ),
    "up to and with": (
        lambda v, x: lax.while_loop(
            lambda s: s[1] <= 6, lambda s: (grow(v, s[0]), 3 + s[1]), (x, 0)
        )[0],
        3,
    ),
    "never": (lambda v, x: lax.fori_loop(3, jnp.int32(3), lambda _, h: grow(v, h), x), 0),
    "one in another": (
        lambda v, x: lax.scan(
            lambda h, _: (lax.fori_loop(0, jnp.int32(2), lambda _, h: grow(v, h), h), None),
            x,
            length=3,
        )[0],
        6,
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_counts_to_a_known_number_costs_its_rounds(loop: str) -> None:
    function, rounds = LOOPS[loop]
    graph = trace(function, VARIABLES, jnp.ones((2, 4)))
    assert graph.flops == rounds * ROUND and not graph.estimates
    assert "whatever a run computes" not in str(graph)


UNKNOWN: dict[str, Any] = {
    "a bound that comes in": lambda v, x, n: lax.fori_loop(0, n, lambda _, h: grow(v, h), x),
    "a counter that jumps": lambda v, x, n: lax.while_loop(
        lambda s: s[0] < 7, lambda s: (s[0] + n, grow(v, s[1])), (0, x)
    )[1],
    "a bound that moves": lambda v, x, n: lax.while_loop(
        lambda s: s[0] < s[2], lambda s: (s[0] + 2, grow(v, s[1]), s[2] + 1), (0, x, 3)
    )[1],
    "until it converges": lambda v, x, n: lax.while_loop(
        lambda h: jnp.abs(h).max() > 0.1, lambda h: grow(v, h), x
    ),
}


@pytest.mark.parametrize("loop", UNKNOWN)
def test_a_loop_of_unknown_rounds_counts_once_and_is_named(loop: str) -> None:
    graph = trace(UNKNOWN[loop], VARIABLES, jnp.ones((2, 4)), jnp.int32(3))
    assert graph.flops == ROUND
    (line,) = graph.estimates
    assert line.startswith("a while loop for one round: ") and "test_cost_of_runs.py" in line
    assert f"counted, whatever a run computes:\n  {line}" in str(graph)


def test_all_branches_count_and_are_named() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        x = lax.cond(x[0, 0] > 0, lambda h: h @ variables["w"], lambda h: h @ variables["u"], x)
        return lax.cond(x[0, 0] > 0, jnp.tanh, jnp.sin, x)  # costs nothing

    graph = trace(apply, VARIABLES, jnp.ones((2, 4)))
    assert graph.flops == 2 * ROUND
    (line,) = graph.estimates
    assert line.startswith("all branches of a cond: ") and "test_cost_of_runs.py" in line


def positions(variables: Any, x: jax.Array) -> jax.Array:
    return x + jnp.linspace(0, 1, 5)[:, None] @ variables["p"]


def product(variables: Any, x: jax.Array) -> jax.Array:
    return x @ (variables["w"] @ variables["u"])


def initial_state(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.zeros((len(x), 4)) @ variables["w"] + x


def each_example(variables: Any, x: jax.Array) -> jax.Array:
    return lax.map(lambda row: row @ (variables["w"] @ variables["u"]), x)


@pytest.mark.parametrize(
    ("function", "shape", "expected"),
    [
        (positions, (5, 4), 2 * 5 * 4),
        (product, (4,), ROUND + 4 * ROUND),
        (initial_state, (4,), ROUND),
        (each_example, (4,), ROUND + 4 * ROUND),
    ],
)
def test_what_a_batch_shares_costs_the_same_whatever_the_batch(
    function: Any, shape: tuple[int, ...], expected: int
) -> None:
    for batch in (1, 2, 8):
        graph = trace(function, VARIABLES, jax.ShapeDtypeStruct((batch, *shape), jnp.float32))
        assert graph.flops == expected
        assert function is not product or graph.sites["u"].flops == 4 * ROUND


def test_an_axis_as_long_as_the_batch_that_nothing_follows_is_taken_for_it() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return x + lax.top_k(jnp.arange(5.0), 5)[0][:, None] @ variables["p"]

    costs = [trace(apply, VARIABLES, jnp.ones((batch, 5, 4))).flops for batch in (2, 5, 8)]
    assert costs == [2 * 5 * 4, 2 * 5 * 4 / 5, 2 * 5 * 4]
