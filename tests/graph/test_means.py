"""Which sums are means: every way in which libraries write a mean or a variance over channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxcompress as jc
from tests.laws import close
from tests.toys.record import draw, rows

WIDTH = 16
Norm = Callable[[jax.Array], jax.Array]
INPUTS = rows(5, 3)
VARIABLES = draw(1, {"a": (3, WIDTH), "b": (WIDTH, 2)})
KEEP = np.arange(WIDTH) % 8 < 4  # of two groups of eight, four each; as a whole, half


def equinox_layer_norm(x: jax.Array) -> jax.Array:
    def norm(x: jax.Array) -> jax.Array:
        mean = jnp.mean(x, keepdims=True)
        variance = jnp.maximum(0.0, jnp.var(x, keepdims=True))
        return (x - mean) * lax.rsqrt(variance + 1e-5)

    return jax.vmap(norm)(x)


def equinox_rms_norm(x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: x * lax.rsqrt(jnp.mean(x**2) + 1e-5))(x)


def haiku_layer_norm(x: jax.Array) -> jax.Array:
    mean, variance = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
    variance = jnp.broadcast_to(variance, x.shape)
    return lax.rsqrt(variance + 1e-5) * (x - mean)


def flax_layer_norm(x: jax.Array, *, is_fast: bool = True) -> jax.Array:
    mean = x.mean(-1)
    if is_fast:
        variance = jnp.maximum(0.0, jnp.square(x).mean(-1) - jnp.square(mean))
    else:
        variance = jnp.square(x - mean[:, None]).mean(-1)
    return (x - mean[:, None]) * lax.rsqrt(variance[:, None] + 1e-6)


@jax.jit
def _total(x: jax.Array) -> jax.Array:
    return x.sum(-1, keepdims=True)


@jax.jit
def _by(x: jax.Array, number: Any) -> jax.Array:
    return x / number


def _centred(x: jax.Array) -> jax.Array:
    return x - x.mean(-1, keepdims=True)


def _scaled(x: jax.Array, square: jax.Array) -> jax.Array:
    return x * lax.rsqrt(square.reshape(-1, 1) + 1e-6)


NATIVE: dict[str, Norm] = {
    "equinox_layer_norm": equinox_layer_norm,
    "equinox_rms_norm": equinox_rms_norm,
    "haiku_layer_norm": haiku_layer_norm,
    "flax_layer_norm": flax_layer_norm,
    "flax_layer_norm_slow": lambda x: flax_layer_norm(x, is_fast=False),
    "standardize": jax.nn.standardize,
    "std": lambda x: _centred(x) / jnp.std(x, -1, keepdims=True),
    "std less one": lambda x: x / jnp.std(x, -1, ddof=1, keepdims=True),
    "var less three": lambda x: x / jnp.sqrt(jnp.var(x, -1, ddof=3, keepdims=True)),
    "less one by hand": lambda x: _scaled(x, jnp.sum(_centred(x) ** 2, -1) / (x.shape[-1] - 1)),
    "einsum": lambda x: _scaled(x, jnp.einsum("nc,nc->n", x, x) / x.shape[-1]),
    "vdot": lambda x: _scaled(x, jax.vmap(lambda r: jnp.vdot(r, r) / r.size)(x)),
    "dot with ones": lambda x: x - x @ jnp.ones((x.shape[-1], 1)) / x.shape[-1],
    "sum in jit": lambda x: x - _total(x) / x.shape[-1],
    "division in jit": lambda x: x - _by(x.sum(-1, keepdims=True), x.shape[-1]),
    "sum under remat": lambda x: x - jax.checkpoint(_total)(x) / x.shape[-1],
    "norm over root": lambda x: (
        x / (jnp.linalg.norm(x, axis=-1, keepdims=True) / jnp.sqrt(x.shape[-1]))
    ),
    "array of a number": lambda x: x - _total(x) / jnp.full((5, 1), float(x.shape[-1])),
    "inverse": lambda x: x - _total(x) * (1 / x.shape[-1]),
    "out of a scan": lambda x: x - _scanned(x),
    "average": lambda x: x - jnp.average(x, -1)[:, None],
    "bfloat16": lambda x: x - (x.astype(jnp.bfloat16).mean(-1, keepdims=True)),
}


def network(norm: Norm) -> Callable[[Any, jax.Array], jax.Array]:
    return lambda variables, x: norm(x @ variables["a"]) @ variables["b"]


def check_law(graph: jc.Graph, apply: Any, keep: np.ndarray, loops: bool = False) -> Any:
    """Hold that removing is masking, also by gates per example; return the smaller output."""
    (name,), variables = graph.groups, VARIABLES
    prune, gates = jc.shrink(graph, {name: keep}), jnp.asarray(keep, jnp.float32)
    small = prune.function(apply)(prune.variables(variables), INPUTS)
    masked = jc.gated(graph, apply)
    close(masked(variables, {name: gates}, INPUTS), small, 2e-5)
    if not loops:  # in a loop over examples, a sum has no axis of them
        close(masked(variables, {name: jnp.tile(gates, (len(INPUTS), 1))}, INPUTS), small, 2e-5)
    assert np.isfinite(small).all()
    return small


@pytest.mark.parametrize("name", NATIVE)
def test_what_is_left_is_what_the_code_computes_at_the_smaller_width(name: str) -> None:
    apply = network(NATIVE[name])
    graph = jc.trace(apply, VARIABLES, INPUTS)
    assert {one.ddof is None for one in graph.divided} == {False}
    small = check_law(graph, apply, KEEP, "scan" in name)
    expected = apply({"a": VARIABLES["a"][:, KEEP], "b": VARIABLES["b"][KEEP]}, INPUTS)
    close(small, expected, 1e-2 if name == "bfloat16" else 1e-5)
    assert 'what is left of them (means="kept"):\n  a[1]: ' in str(graph)
    assert "stays as it is" not in str(graph)


@pytest.mark.parametrize("name", ["haiku_layer_norm", "einsum"])
def test_all_summands_divide_where_the_caller_says_so(name: str) -> None:
    apply = network(NATIVE[name])
    graph = jc.trace(apply, VARIABLES, INPUTS, means="all")
    assert 'all of them, gone or not (means="all"):' in str(graph)
    small = check_law(graph, apply, KEEP)
    kept = {"a": VARIABLES["a"] * KEEP, "b": VARIABLES["b"]}
    if name == "einsum":  # of what is zero, the square is zero too
        close(small, apply(kept, INPUTS), 1e-5)


def test_groups_of_group_norm_keep_their_size() -> None:
    norm = eqx.nn.GroupNorm(2, WIDTH, channelwise_affine=False)
    apply = network(jax.vmap(norm))
    graph = jc.trace(apply, VARIABLES, INPUTS, split="lanes")
    assert {name: group.width for name, group in graph.groups.items()} == {"a[1]": 8}
    prune = jc.shrink(graph, {"a[1]": KEEP[:8]})
    smaller = network(jax.vmap(eqx.nn.GroupNorm(2, 8, channelwise_affine=False)))
    small = prune.variables(VARIABLES)
    close(prune.function(apply)(small, INPUTS), smaller(small, INPUTS), 1e-5)


@pytest.mark.parametrize("norm", [nnx.LayerNorm, nnx.RMSNorm])
def test_a_smaller_module_of_nnx_is_the_smaller_function(norm: Any) -> None:
    class Network(nnx.Module):
        def __init__(self) -> None:
            self.first = nnx.Linear(3, WIDTH, rngs=nnx.Rngs(0))
            self.norm = norm(WIDTH, rngs=nnx.Rngs(0))
            self.last = nnx.Linear(WIDTH, 2, rngs=nnx.Rngs(1))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(self.norm(self.first(x)))

    module = Network()
    apply, variables = jc.adapters.from_nnx(module)
    prune = jc.shrink(jc.trace(apply, variables, INPUTS), {"first/kernel[1]": KEEP})
    small = prune.variables(variables)
    native = nnx.merge(nnx.graphdef(module), small)(INPUTS)
    close(prune.function(apply)(small, INPUTS), native, 1e-6)


def test_a_variance_over_channels_copied_twice_is_that_of_one_copy() -> None:
    drawn = draw(2, {"a": (3, 8), "b": (8, 2)})
    twice = {"a": jnp.tile(drawn["a"], (1, 2)), "b": jnp.pad(drawn["b"], ((0, 8), (0, 0)))}
    apply = network(haiku_layer_norm)
    prune = jc.shrink(jc.trace(apply, twice, INPUTS), {"a[1]": np.arange(16) < 8})
    close(prune.function(apply)(drawn, INPUTS), apply(twice, INPUTS), 1e-5)


def _scanned(x: jax.Array, start: Any = 0.0) -> jax.Array:
    totals = lax.scan(lambda state, row: (state, row.sum()), start, x)[1]
    return totals[:, None] / x.shape[-1]


OTHERS: dict[str, tuple[Norm, str]] = {
    "root": (lambda x: x - x.sum(-1, keepdims=True) / jnp.sqrt(x.shape[-1]), "by 4 at"),
    "a tenth": (lambda x: x - x.mean(-1, keepdims=True) - 0.1 * _sum_squared(x), "by 10 at"),
    "used whole too": (lambda x: x - (s := _total(x)) / x.shape[-1] + jnp.tanh(s), "by 16 at"),
    "two numbers": (lambda x: x - (s := _total(x)) / x.shape[-1] + s / 15, "by 16 at"),
    "after an addition": (lambda x: x - (_total(x) + 1) / x.shape[-1], "by 16 at"),
}


def _sum_squared(x: jax.Array) -> jax.Array:
    return jnp.square(x).sum(-1, keepdims=True)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_mean_keeps_its_number_and_is_shown(name: str) -> None:
    norm, words = OTHERS[name]
    apply = network(norm)
    graph = jc.trace(apply, VARIABLES, INPUTS)
    check_law(graph, apply, KEEP)
    assert "a number that stays as it is:\n  a[1]: " + words in str(graph)


def test_gates_of_each_example_are_refused_where_a_loop_over_examples_sums() -> None:
    apply = network(lambda x: x - _scanned(x))
    graph = jc.trace(apply, VARIABLES, INPUTS)
    with pytest.raises(ValueError, match="need an operand with an example axis"):
        jc.gated(graph, apply)(VARIABLES, {"a[1]": jnp.ones((len(INPUTS), WIDTH))}, INPUTS)


def test_what_divides_a_kernel_scales_it() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ variables["a"]) @ variables["b"] / WIDTH

    graph = jc.trace(apply, VARIABLES, INPUTS)
    small = check_law(graph, apply, KEEP)
    expected = apply({"a": VARIABLES["a"][:, KEEP], "b": VARIABLES["b"][KEEP]}, INPUTS)
    close(small, expected, 1e-6)
    assert "a[1]: by 16 at" in str(graph)


def test_where_no_more_are_left_than_are_subtracted_the_division_is_by_one() -> None:
    apply = network(lambda x: x * jnp.var(x, -1, ddof=3, keepdims=True))
    graph = jc.trace(apply, VARIABLES, INPUTS)
    small = check_law(graph, apply, np.arange(WIDTH) < 3)
    hidden = INPUTS @ VARIABLES["a"][:, :3]
    squares = jnp.square(hidden - hidden.mean(-1, keepdims=True)).sum(-1, keepdims=True)
    close(small, (hidden * squares) @ VARIABLES["b"][:3], 1e-5)


def test_over_several_axes_less_one() -> None:
    shapes = {"a": (3, 4, 6), "b": (4, 6, 2)}
    variables = draw(3, shapes)

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        hidden = jnp.einsum("ni,ihd->nhd", x, variables["a"])
        hidden = hidden / jnp.std(hidden, (1, 2), ddof=1, keepdims=True)
        return jnp.einsum("nhd,hdo->no", hidden, variables["b"])

    graph = jc.trace(apply, variables, INPUTS)
    keep = {"a[1]": np.arange(4) < 3, "a[2]": np.arange(6) % 2 < 1}
    prune = jc.shrink(graph, keep)
    small = prune.variables(variables)
    expected = apply(small, INPUTS)
    close(prune.function(apply)(small, INPUTS), expected, 1e-5)
    gates = {name: jnp.asarray(mask, jnp.float32) for name, mask in keep.items()}
    close(jc.gated(graph, apply)(variables, gates, INPUTS), expected, 1e-5)
