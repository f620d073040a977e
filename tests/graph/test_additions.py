"""A width is a residual stream where, and only where, an addition joins two branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxcompress.graph import Graph, internal_groups, streams, trace
from jaxcompress.graph.additions import added_labels
from jaxcompress.graph.program import label_program, read
from tests.laws import graph_of
from tests.toys.convolution import conv

ROWS = jnp.ones((2, 5, 3))
IMAGES = jnp.ones((2, 4, 4, 3))
SHAPES = {"a": (3, 6), "b": (3, 6), "up": (6, 8), "down": (8, 6), "scale": (6,), "out": (6, 2)}
VARIABLES = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
LAYERS = {**VARIABLES, "up": jnp.ones((3, 6, 8)), "down": jnp.ones((3, 8, 6))}
KERNELS = {"a": (3, 3, 3, 6), "b": (3, 3, 6, 6), "dw": (3, 3, 1, 6), "wide": (3, 3, 6, 9)}
CONVOLUTIONS = {name: jnp.ones(shape) for name, shape in KERNELS.items()}

Hidden = Callable[[Any, jax.Array], Any]


def traced(hidden: Hidden, variables: Any = VARIABLES, x: jax.Array = ROWS) -> Graph:
    """Trace a function whose result is read by a dense layer."""
    head = {**variables, "head": jnp.ones((jax.eval_shape(hidden, variables, x).shape[-1], 2))}
    return trace(lambda v, x: hidden(v, x) @ v["head"], head, x)


def joins(hidden: Hidden, variables: Any = VARIABLES, x: jax.Array = ROWS) -> bool:
    """Tell whether an addition joins branches along any axis, prunable or not."""
    return bool(added_labels(label_program(read(hidden, variables, (x,)), True)).any())


def branch(v: Any, hidden: jax.Array) -> jax.Array:
    return jnp.tanh(hidden @ v["up"]) @ v["down"]


def swish_by_hand(v: Any, x: jax.Array) -> jax.Array:
    x = x @ v["a"]
    return 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.04 * x**3)))


def rotary(v: Any, x: jax.Array) -> jax.Array:
    x, angles = x @ v["a"], jnp.arange(5.0)[:, None] * jnp.ones(6)
    first, second = jnp.split(x, 2, axis=-1)
    return x * jnp.cos(angles) + jnp.concatenate([-second, first], -1) * jnp.sin(angles)


def one_pass_norm(v: Any, x: jax.Array) -> jax.Array:
    x = x @ v["a"]
    mean, square = x.mean(-1, keepdims=True), (x**2).mean(-1, keepdims=True)
    scale = v["scale"] * lax.rsqrt(square - mean**2)
    return x * scale + (v["scale"] - mean * scale)


def in_chunks(v: Any, x: jax.Array) -> jax.Array:
    """Sum one projection over tokens by a loop, as attention in chunks does."""
    values = (x @ v["a"]).swapaxes(0, 1)
    step = lambda total, value: (0.9 * total + value, None)  # noqa: E731
    return lax.scan(step, jnp.zeros((2, 6)), values)[0]


def normalised(layer: nn.Module) -> Hidden:
    return lambda v, x: layer.apply(v["norm"], x @ v["a"])


NO_BRANCH: dict[str, Hidden] = {
    "product": lambda v, x: (x @ v["a"]) * (x @ v["b"]),
    "swiglu": lambda v, x: jax.nn.silu(x @ v["a"]) * (x @ v["b"]) + v["scale"],
    "gate": lambda v, x: (h := x @ v["a"]) * jax.nn.sigmoid(branch(v, h.mean(1)))[:, None],
    "bias": lambda v, x: x @ v["a"] + v["scale"] - 2 * v["scale"].mean(),
    "constant": lambda v, x: x @ v["a"] + np.linspace(0, 1, 6, dtype=np.float32) - 1,
    "kernel of two": lambda v, x: x @ (v["a"] + v["b"] @ (v["up"] @ v["down"])),
    "mean": lambda v, x: (h := x @ v["a"]) - h.mean(-1, keepdims=True),
    "full mean": lambda v, x: (h := x @ v["a"]) - jnp.broadcast_to(h.mean(-1)[..., None], h.shape),
    "mean of rows": lambda v, x: (h := x @ v["a"]) - jnp.broadcast_to(h.mean((0, 1)), h.shape),
    "max": lambda v, x: jnp.exp((h := x @ v["a"]) - h.max(-1, keepdims=True)),
    "max of rows": lambda v, x: jnp.exp((h := x @ v["a"]) - h.max(1, keepdims=True)),
    "one-pass norm": one_pass_norm,
    "gelu": lambda v, x: jax.nn.gelu(x @ v["a"]),
    "swish by hand": swish_by_hand,
    "leaky": lambda v, x: (h := x @ v["a"]) + jnp.where(h > 0, h, 0.1 * h),
    "rotary": rotary,
    "in chunks": in_chunks,
}


@pytest.mark.parametrize("name", NO_BRANCH)
def test_no_second_branch(name: str) -> None:
    assert not joins(NO_BRANCH[name])
    # The same array does join a branch that another kernel made.
    hidden = NO_BRANCH[name]
    assert joins(lambda v, x: (h := hidden(v, x)) + (x if h.ndim == 3 else x[:, 0]) @ v["a"])


def test_products_are_internal() -> None:
    graph = traced(lambda v, x: (h := x @ v["a"]) + jnp.tanh(h @ v["up"]) @ v["down"])
    assert (streams(graph), internal_groups(graph)) == (["a[1]"], ["up[1]"])
    gated = traced(lambda v, x: jnp.tanh(x @ v["a"]) * (x @ v["b"]))
    assert (streams(gated), internal_groups(gated)) == ([], ["a[1]"])


def scanned(v: Any, hidden: jax.Array) -> jax.Array:
    kernels = {"up": v["up"], "down": v["down"]}
    return lax.scan(lambda h, layer: (h + branch(layer, h), None), hidden, kernels)[0]


@jax.custom_vjp
def added(hidden: jax.Array, other: jax.Array) -> jax.Array:
    return hidden + other


added.defvjp(lambda one, other: (one + other, None), lambda _, cotangent: (cotangent, -cotangent))


def messages(v: Any, x: jax.Array) -> jax.Array:
    hidden, sent, received = x @ v["a"], jnp.array([0, 1]), jnp.array([1, 0])
    gathered = jnp.zeros_like(hidden).at[received].add(branch(v, hidden[sent]))
    return hidden + gathered


BRANCHES: dict[str, Hidden] = {
    "identity": lambda v, x: (h := x @ v["a"]) + branch(v, h),
    "difference": lambda v, x: (h := x @ v["a"]) - branch(v, h),
    "projection": lambda v, x: branch(v, x @ v["b"]) + x @ v["a"],
    "norm before": lambda v, x: (h := x @ v["a"]) + branch(v, h - h.mean(1, keepdims=True)),
    "gated branch": lambda v, x: (h := x @ v["a"]) + jax.nn.sigmoid(h) * branch(v, h),
    "context": lambda v, x: (h := x @ v["a"]) + branch(v, h).mean(1, keepdims=True),
    "dense sums": lambda v, x: (h := x @ v["a"]) + (k := branch(v, h)) + branch(v, h + k),
    "jit": lambda v, x: jax.jit(lambda v, h: h + branch(v, h))(v, x @ v["a"]),
    "vmap": lambda v, x: jax.vmap(lambda h: h + branch(v, h))(x @ v["a"]),
    "remat": lambda v, x: jax.checkpoint(lambda v, h: h + branch(v, h))(v, x @ v["a"]),
    "custom derivative": lambda v, x: added((h := x @ v["a"]), branch(v, h)),
    "choice": lambda v, x: lax.cond(
        x.sum() > 0, lambda h: h + branch(v, h), lambda h: h, x @ v["a"]
    ),
    "chosen branch": lambda v, x: (
        (h := x @ v["a"]) + lax.cond(x.sum() > 0, lambda h: branch(v, h), jnp.zeros_like, h)
    ),
    "while": lambda v, x: lax.while_loop(
        lambda s: s[0] < x[0, 0, 0], lambda s: (s[0] + 1, s[1] + branch(v, s[1])), (0, x @ v["a"])
    )[1],
    "messages": messages,
    "added in place": lambda v, x: (h := x @ v["a"]).at[jnp.array([0])].add(branch(v, h)[:1]),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_two_branches(name: str) -> None:
    graph = traced(BRANCHES[name])
    assert streams(graph) == ["a[1]"] and "up[1]" in internal_groups(graph)


def test_a_scanned_stack() -> None:
    graph = traced(lambda v, x: scanned(v, x @ v["a"]), LAYERS)
    assert (streams(graph), internal_groups(graph)) == (["a[1]"], ["up[2]"])


STEPS: dict[str, Callable[[Any, jax.Array, jax.Array], jax.Array]] = {
    "residual": lambda v, state, x: state + branch(v, state * (x @ v["a"])),
    "sum over time": lambda v, state, x: state + x @ v["a"],
    "recurrent": lambda v, state, x: jnp.tanh(x @ v["a"] + state @ v["up"] @ v["down"]),
    "last": lambda v, state, x: jnp.tanh((x @ v["a"]) * state),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_scan_joins_what_its_rounds_join(name: str, rounds: int) -> None:
    step = STEPS[name]

    def unrolled(v: Any, x: jax.Array) -> jax.Array:
        state = jnp.zeros((2, 6))
        for time in range(rounds):
            state = step(v, state, x[:, time])
        return state

    def looped(v: Any, x: jax.Array) -> jax.Array:
        times = x.swapaxes(0, 1)[:rounds]
        return lax.scan(lambda s, now: (step(v, s, now), None), jnp.zeros((2, 6)), times)[0]

    assert streams(traced(looped)) == streams(traced(unrolled))
    assert rounds < 3 or bool(streams(traced(looped))) == (name != "last")


def test_convolutions() -> None:
    def pooled(hidden: Hidden) -> Graph:
        return traced(lambda v, x: hidden(v, x).mean((1, 2)), CONVOLUTIONS, IMAGES)

    def option_a(v: Any, x: jax.Array) -> jax.Array:
        hidden = conv(x, v["a"])
        return jnp.pad(hidden, ((0, 0), (0, 0), (0, 0), (1, 2))) + conv(hidden, v["wide"])

    def pyramid(v: Any, x: jax.Array) -> jax.Array:
        fine = conv(x, v["a"])
        coarse = conv(nn.max_pool(fine, (2, 2), (2, 2)), v["b"])
        return fine + jax.image.resize(coarse, fine.shape, "bilinear")

    def depthwise(v: Any, x: jax.Array) -> jax.Array:
        hidden = conv(x, v["a"])
        return hidden + conv(hidden, v["dw"], feature_group_count=6)

    assert streams(pooled(option_a)) == list(pooled(option_a).groups) == ["a[3]", "wide[3]"]
    assert streams(pooled(pyramid)) == ["a[3]"]
    assert streams(pooled(depthwise)) == [] and list(pooled(depthwise).groups) == ["a[3]"]


@pytest.mark.parametrize(
    ("toy", "expected"),
    [
        ("squeeze_excite", ["project[3]"]),
        ("gated_linear_unit", ["embed[1]"]),
        ("fused_attention", ["embed[1]"]),
        ("multi_query", []),
        ("grouped_query", []),
        ("group_norm", []),
        ("concatenation", []),
        ("channel_shuffle", []),
        ("embedding", ["mix[1]"]),
        ("recurrent", ["input[1]"]),
        ("loops", []),
        ("weight_sharing", []),
    ],
)
def test_toys(toy: str, expected: list[str]) -> None:
    graph = graph_of(toy)
    assert streams(graph) == expected
    assert internal_groups(graph) == [name for name in graph.groups if name not in expected]
