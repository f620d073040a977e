"""The laws of `quantize`, on toys that read their kernels in every way."""

from __future__ import annotations

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.compression import Compression, chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink
from jaxcompress.quantization.codes import restored, rounded
from tests.laws import close, graph_of, random_keep, same, toy_of

pytest.importorskip("qwix", reason="the extra `quantize` is not installed")

from jaxcompress.quantization import (  # noqa: E402
    dequantized_variables,
    fake_quantized,
    float_steps,
    input_ranges,
    quantizable,
    quantize,
)

# Strided, grouped, shared, turned, scanned and half-precise kernels; attention; a module of NNX.
NAMES = (
    "residual_a",
    "channel_shuffle",
    "weight_sharing",
    "bfloat16",
    "kernel_left",
    "vision_transformer",
    "scanned",
    "nnx_model",
)
ACTIVATIONS = ("float", "dynamic", "static")
every_name = pytest.mark.parametrize("name", NAMES)


@functools.cache
def made(name: str) -> dict[str, Compression]:
    """Quantize a toy in every way, with ranges that cut some inputs off."""
    graph, toy = graph_of(name), toy_of(name)
    inputs = lambda variables, given: toy.apply(variables, *given)  # noqa: E731
    ranges = input_ranges(graph, inputs, toy.variables, [toy.inputs], candidates=1)
    cut = {path: 0.8 * each for path, each in ranges.items()}
    ways = {way: cut if way == "static" else None for way in ACTIVATIONS}
    bits = dict(zip(ways, (4, 8, 8), strict=True))
    return {
        way: quantize(graph, bits[way], activations=way, ranges=each, candidates=1 + 2 * (n == 0))  # type: ignore[arg-type]
        for n, (way, each) in enumerate(ways.items())
    }


@functools.cache
def outputs(name: str) -> dict[str, tuple[Any, Any]]:
    """Return what integers give, and what rounded floats do, in one program."""
    toy, ways = toy_of(name), made(name)

    def run(variables: Any, *inputs: Any) -> Any:
        small = {way: one.variables(variables) for way, one in ways.items()}
        return {
            way: (
                one.function(toy.apply)(small[way], *inputs),
                fake_quantized(one, toy.apply)(variables, *inputs),
            )
            for way, one in ways.items()
        }

    results: dict[str, tuple[Any, Any]] = jax.jit(run)(toy.variables, *toy.inputs)
    return results


@every_name
def test_integers_and_rounded_floats_agree(name: str) -> None:
    """And both differ from the network itself, but not by much."""
    toy = toy_of(name)
    whole = toy.apply(toy.variables, *toy.inputs)
    scale = float(np.abs(np.asarray(whole, np.float64)).max())
    for way, (integers, faked) in outputs(name).items():
        # Codes keep their scales in float32, where rounded floats have the kernel's precision.
        close(integers, faked, max(toy.tolerance, 2e-5))
        gap = np.abs(np.asarray(integers, np.float64) - np.asarray(whole, np.float64)).max()
        assert 1e-5 * scale < gap < 0.6 * scale, (way, gap / scale)


@every_name
def test_kernels_are_off_by_half_a_scale_at_most(name: str) -> None:
    leaves = flatten_with_paths(toy_of(name).variables)[0]
    sites = made(name)["dynamic"].spec["sites"]

    @jax.jit
    def measured(kernels: Any) -> Any:
        codes = {path: rounded(kernels[path], site) for path, site in sites.items()}
        back = {path: restored(*codes[path], site) for path, site in sites.items()}
        ones = {path: jnp.ones_like(codes[path][0]) for path in sites}
        halves = {
            path: restored(ones[path], codes[path][1], site) / 2 for path, site in sites.items()
        }
        again = {path: rounded(back[path], site)[0] for path, site in sites.items()}
        return {p: each[0] for p, each in codes.items()}, back, halves, again

    codes, back, halves, again = measured({path: leaves[path] for path in sites})
    for path in sites:
        error = np.abs(back[path] - np.asarray(leaves[path], np.float32))
        assert (error <= halves[path] * (1 + 1e-4)).all(), path
        assert np.abs(codes[path]).max() == 127
        np.testing.assert_array_equal(codes[path], again[path])


@every_name
def test_specs_survive_json_and_shapes_are_told_before(name: str) -> None:
    toy = toy_of(name)
    for one in made(name).values():
        again = from_spec(json.loads(json.dumps(dict(one.spec))))
        small = one.variables(toy.variables)
        same(again.variables(toy.variables), small)
        told = again.variables(jax.eval_shape(lambda v: v, toy.variables))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), told) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), small
        )


@pytest.mark.parametrize("name", ["residual_a", "vision_transformer"])
def test_it_chains_behind_channels_and_ranks(name: str) -> None:
    """And what codes stand for, quantized again, are the same codes."""
    toy, graph = toy_of(name), graph_of(name)
    prune = shrink(graph, random_keep(graph))
    small, function = prune.variables(toy.variables), prune.function(toy.apply)
    middle = trace(function, small, *toy.inputs)
    path = next(p for p in quantizable(middle) if middle.sites[p].forms[0].full > 1)
    lowrank = factorize(middle, {path: 1})
    factors, function = lowrank.variables(small), lowrank.function(function)
    integers = quantize(trace(function, factors, *toy.inputs), activations="dynamic")
    assert {f"{path}/first", f"{path}/second"} <= set(integers.spec["sites"])
    whole = from_spec(chain(prune, lowrank, integers).spec)
    codes = integers.variables(factors)
    back = dequantized_variables(whole, codes)
    close(integers.variables(back), codes, 1e-6)
    one, other = jax.jit(
        lambda v, w, *x: (whole.function(toy.apply)(v, *x), fake_quantized(whole, toy.apply)(w, *x))
    )(codes, back, *toy.inputs)
    close(one, other, 2e-5)
    same(float_steps(whole).variables(toy.variables), factors)


@pytest.mark.parametrize("name", ["residual_a", "scanned"])
def test_gradients_pass_straight_through(name: str) -> None:
    """Those of rounded floats are those at the rounded kernels, where inputs stay floats."""
    toy, integers = toy_of(name), made(name)["float"]
    rounded_variables = dequantized_variables(integers, integers.variables(toy.variables))

    def loss(function: Any) -> Any:
        return lambda variables: jnp.square(function(variables, *toy.inputs)).sum()

    faked = jax.jit(jax.grad(loss(fake_quantized(integers, toy.apply))))(toy.variables)
    plain = jax.jit(jax.grad(loss(toy.apply)))(rounded_variables)
    close(faked, plain, 1e-4)
    assert all(np.abs(faked_leaf).max() > 0 for faked_leaf in jax.tree.leaves(faked))
