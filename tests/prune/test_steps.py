"""`multiple_of` counts entries of kernels: lanes of heads and norm groups, not units."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array
from jaxcompress.prune import channel_steps, shrink, threshold
from tests.toys.record import initial, rows


class NormGroups(nn.Module):
    """Eight norm groups of four channels, flattened to rows of a dense layer."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.GroupNorm(8)(nn.Conv(32, (3, 3))(x)))
        return nn.Dense(2)(x.reshape(len(x), -1))


class Heads(nn.Module):
    """Attention of six heads of 16 lanes, on an axis each."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.MultiHeadDotProductAttention(6, qkv_features=96, out_features=48)(x, x)


class FlatHeads(nn.Module):
    """The same heads, lanes of all heads along one axis."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        q, k, v = (nn.Dense(96, name=n)(x).reshape(*x.shape[:2], 6, 16) for n in "qkv")
        mixed = jax.nn.dot_product_attention(q, k, v).reshape(*x.shape[:2], 96)
        return nn.Dense(48, name="out")(mixed)


ATTENTION = "params/MultiHeadDotProductAttention_0"
CASES: dict[str, tuple[nn.Module, tuple[int, ...], dict[str, int]]] = {
    "norm groups": (NormGroups(), (2, 4, 4, 3), {"params/Conv_0/kernel[3]": 2}),
    "heads": (
        Heads(),
        (2, 5, 48),
        {
            f"{ATTENTION}/key/kernel[1]": 1,
            f"{ATTENTION}/key/kernel[2]": 8,
            f"{ATTENTION}/value/kernel[2]": 8,
        },
    ),
}


def traced(name: str) -> tuple[nn.Module, Any, jc.Graph, Array]:
    module, shape, _ = CASES[name]
    x = rows(*shape)
    variables = initial(module, x)
    return module, variables, jc.trace(module.apply, variables, x), x


@pytest.mark.parametrize("name", CASES)
def test_steps_are_of_entries_in_memory(name: str) -> None:
    graph = traced(name)[2]
    assert channel_steps(graph, 8) == CASES[name][2]
    assert set(channel_steps(graph, 1).values()) == {1}


def test_lanes_of_all_heads_along_one_axis() -> None:
    x = rows(2, 5, 48)
    variables = initial(FlatHeads(), x)
    graph = jc.trace(FlatHeads().apply, variables, x)
    steps = channel_steps(graph, 8)
    for group, step in steps.items():
        for member in graph.groups[group].members:
            assert step * member.indices.shape[1] % 8 == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("part", [0.8, 0.6, 0.5])
def test_axes_of_what_is_left_are_multiples(name: str, part: float) -> None:
    module, variables, graph, x = traced(name)
    scores = {n: np.random.default_rng(3).random(g.width) for n, g in graph.groups.items()}
    budget = jc.Budget(params=part)
    keep = jc.select(graph, scores, budget, multiple_of=8)
    small = shrink(graph, keep).variables(variables)["params"]
    if name == "heads":
        query = small["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape
        assert query[1] * query[2] % 8 == 0 and query[1:] != (6, 16)
        out = small["MultiHeadDotProductAttention_0"]["out"]["kernel"].shape
        assert out[0] * out[1] % 8 == 0
    else:
        assert small["Conv_0"]["kernel"].shape[3] % 8 == 0
        assert small["Conv_0"]["kernel"].shape[3] < 32
    absolute, steps = budget.of(graph), channel_steps(graph, 8)
    gates = jax.jit(lambda s: threshold(graph.cost, s, absolute, multiple_of=steps))(
        {n: jnp.asarray(s, jnp.float32) for n, s in scores.items()}
    )
    for group, mask in jc.select(
        graph, {n: np.float32(s) for n, s in scores.items()}, budget, multiple_of=8
    ).items():
        np.testing.assert_array_equal(gates[group], mask)


def test_layers_of_a_scan_count_one_by_one() -> None:
    def apply(variables: Any, x: Array) -> Array:
        body = lambda h, w: (h + jnp.tanh(h @ w), None)  # noqa: E731
        return jax.lax.scan(body, x, variables["stack"])[0] @ variables["out"]

    variables = {"stack": jnp.ones((6, 4, 4)), "out": jnp.ones((4, 2))}
    graph = jc.trace(apply, variables, jnp.ones((2, 4)))
    steps = channel_steps(graph, 8)
    assert {n: steps[n] for n, g in graph.groups.items() if g.is_depth} == {"stack[0]": 1}


@pytest.mark.parametrize("wrong", [{"a[1]": 0}, {"a[1]": 2.5}, 0])
def test_steps_by_group_are_whole_numbers(wrong: Any) -> None:
    variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    graph = jc.trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
    budget = jc.Budget(flops=0.5).of(graph)
    with pytest.raises(ValueError, match="multiple_of must be .* at least 1, but is"):
        threshold(graph.cost, {"a[1]": np.arange(4.0)}, budget, multiple_of=wrong)
