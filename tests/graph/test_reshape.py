"""Reshapes: blocks of equal products, permutations, and products of factors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.graph import trace
from jaxcompress.graph.rules.reshape import blocks
from jaxcompress.prune import gated, shrink

ROWS = jnp.ones((3, 4))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2, 3), (2, 3), [((0,), (0,)), ((1,), (1,))]),
        ((2, 12, 5), (2, 3, 4, 5), [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]),
        ((2, 3, 4), (2, 12), [((0,), (0,)), ((1, 2), (1,))]),
        ((6, 4), (4, 6), [((0, 1), (0, 1))]),
        ((2, 1, 3), (2, 3), [((0,), (0,)), ((1, 2), (1,))]),
        ((5,), (5, 1), [((0,), (0,)), ((), (1,))]),
        ((), (1, 1), [((), (0,)), ((), (1,))]),
    ],
)
def test_blocks(before: tuple[int, ...], after: tuple[int, ...], expected: list[Any]) -> None:
    assert [tuple(block) for block in blocks(before, after)] == expected


def _between(middle: Any, width: int = 12) -> tuple[Any, Any]:
    """Return a network with a rearrangement of 12 channels between two dense layers."""
    variables = {
        "first": jnp.linspace(-1, 1, 4 * width).reshape(4, width),
        "second": jnp.sin(jnp.arange(width * 2.0)).reshape(width, 2),
    }

    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        return middle(jnp.tanh(rows @ variables["first"])) @ variables["second"]

    return apply, variables


def _shuffled(hidden: jax.Array) -> jax.Array:
    return hidden.reshape(3, 2, 3, 2).transpose(0, 3, 1, 2).reshape(3, 12)


def test_a_shuffle_is_a_permutation() -> None:
    apply, variables = _between(_shuffled)
    graph = trace(apply, variables, ROWS)
    order = np.arange(12).reshape(2, 3, 2).transpose(2, 0, 1).ravel()
    (group,) = graph.groups.values()
    assert group.width == 12
    assert order[group.member("second", 0).indices[:, 0]].tolist() == list(range(12))


@pytest.mark.parametrize("undone", [False, True])
def test_a_ragged_shuffle_runs(undone: bool) -> None:
    twice = lambda hidden: _shuffled(_shuffled(hidden))  # noqa: E731
    apply, variables = _between(twice if undone else _shuffled)
    graph = trace(apply, variables, ROWS)
    keep = {name: np.arange(12) % 5 < 2 for name in graph.groups}
    prune = shrink(graph, keep)
    gates = {name: mask.astype(np.float32) for name, mask in keep.items()}
    expected = gated(graph, apply)(variables, gates, ROWS)
    output = prune.function(apply)(prune.variables(variables), ROWS)
    np.testing.assert_allclose(output, expected, rtol=1e-5)


def test_a_split_that_is_used_is_a_product() -> None:
    scaled = lambda h: (h.reshape(3, 3, 4) * jnp.arange(1.0, 4)[:, None]).reshape(3, 12)  # noqa: E731
    apply, variables = _between(scaled)
    assert trace(apply, variables, ROWS).groups["first[1]"].width == 3


def test_the_other_factor_of_a_split() -> None:
    normed = lambda h: jax.nn.standardize(h.reshape(3, 3, 4), axis=0).reshape(3, 12)  # noqa: E731
    apply, variables = _between(normed)
    whole = trace(apply, variables, ROWS).groups["first[1]"]
    lanes = trace(apply, variables, ROWS, split="lanes").groups["first[1]"]
    assert whole.member("first", 1).indices[0].tolist() == [0, 1, 2, 3]
    assert lanes.member("first", 1).indices[0].tolist() == [0, 4, 8]
    keep = {"first[1]": np.array([True, False, True, False])}
    prune = shrink(trace(apply, variables, ROWS, split="lanes"), keep)
    assert prune.function(apply)(prune.variables(variables), ROWS).shape == (3, 2)


@pytest.mark.parametrize(
    "barrier",
    [
        jax.checkpoint(lambda parts: parts.swapaxes(1, 2)),
        lambda parts: jax.lax.scan(lambda c, _: (c, None), parts, None, length=1)[0].swapaxes(1, 2),
        lambda parts: jax.lax.cond(ROWS.sum() > 0, jnp.sin, jnp.cos, parts).swapaxes(1, 2),
        lambda parts: jax.nn.relu(parts).swapaxes(1, 2),
    ],
)
def test_a_split_is_used_by_a_call_that_jax_runs(barrier: Any) -> None:
    apply, variables = _between(lambda hidden: barrier(hidden.reshape(3, 2, 6)).reshape(3, 12))
    graph = trace(apply, variables, ROWS)
    assert graph.groups["first[1]"].width == 2
    keep = {"first[1]": np.array([True, False])}
    prune = shrink(graph, keep)
    expected = gated(graph, apply)(variables, {"first[1]": jnp.array([1.0, 0.0])}, ROWS)
    output = prune.function(apply)(prune.variables(variables), ROWS)
    np.testing.assert_allclose(output, expected, rtol=1e-5)


def test_an_unknown_split_is_refused() -> None:
    apply, variables = _between(_shuffled)
    with pytest.raises(ValueError, match="'whole' or 'lanes'"):
        trace(apply, variables, ROWS, split="heads")
