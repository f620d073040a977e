"""Which sums are means: every way in which libraries write a mean or a variance over channels."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxcompress as jc
from tests.graph.normed import (
    INPUTS,
    KEEP,
    VARIABLES,
    WIDTH,
    Norm,
    check_law,
    network,
    scanned,
    total,
)
from tests.laws import close
from tests.toys.record import draw


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
    "sum in jit": lambda x: x - total(x) / x.shape[-1],
    "division in jit": lambda x: x - _by(x.sum(-1, keepdims=True), x.shape[-1]),
    "sum under remat": lambda x: x - jax.checkpoint(total)(x) / x.shape[-1],
    "norm over root": lambda x: (
        x / (jnp.linalg.norm(x, axis=-1, keepdims=True) / jnp.sqrt(x.shape[-1]))
    ),
    "array of a number": lambda x: x - total(x) / jnp.full((5, 1), float(x.shape[-1])),
    "inverse": lambda x: x - total(x) * (1 / x.shape[-1]),
    "out of a scan": lambda x: x - scanned(x),
    "average": lambda x: x - jnp.average(x, -1)[:, None],
    "bfloat16": lambda x: x - (x.astype(jnp.bfloat16).mean(-1, keepdims=True)),
}


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


@pytest.mark.parametrize("name", ["std less one", "einsum"])
def test_all_summands_divide_where_the_caller_says_so(name: str) -> None:
    apply = network(NATIVE[name])
    graph = jc.trace(apply, VARIABLES, INPUTS, means="all")
    assert 'all of them, gone or not (means="all"):' in str(graph)
    check_law(graph, apply, KEEP)


@pytest.mark.parametrize("name", ["std less one", "einsum"])
def test_gradients_of_masked_and_smaller_means_are_the_same(name: str) -> None:
    def loss(variables: Any, x: jax.Array) -> jax.Array:
        return jnp.sin(network(NATIVE[name])(variables, x)).sum()

    graph = jc.trace(network(NATIVE[name]), VARIABLES, INPUTS)
    prune, gates = jc.shrink(graph, {"a[1]": KEEP}), {"a[1]": jnp.asarray(KEEP, jnp.float32)}
    masked = jax.grad(lambda variables: jc.gated(graph, loss)(variables, gates, INPUTS))
    small = jax.grad(prune.function(loss))(prune.variables(VARIABLES), INPUTS)
    close(small, prune.variables(masked(VARIABLES)), 1e-5)


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
