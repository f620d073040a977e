"""Candidates in one program give the losses of a loop, however they are chunked or split."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import parallel
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.graph.internals import inner_jaxprs
from jaxcompress.prune.candidates.chunks import chunk_size
from jaxcompress.prune.candidates.local import local_search
from jaxcompress.prune.candidates.losses import candidate_losses
from jaxcompress.prune.candidates.prefix import hoist

Network: TypeAlias = tuple[PyTree, jax.Array, jc.Graph, Function]


@pytest.fixture(scope="module")
def network() -> Network:
    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jax.lax.conv_general_dilated(
            x, variables["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = jnp.tanh(h - h.mean((0, 1, 2))).mean((1, 2))
        return jnp.tanh(h @ variables["hidden"]) @ variables["out"]

    shapes = {"conv": (3, 3, 2, 6), "hidden": (6, 8), "out": (8, 2)}
    keys = jax.random.split(jax.random.key(0), 4)
    variables = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    x = jax.random.normal(keys[3], (4, 5, 5, 2))
    target = apply(variables, x)
    loss = lambda params, batch: jnp.square(apply(params, batch) - target).mean()  # noqa: E731
    return variables, x, jc.trace(apply, variables, x), loss


@pytest.mark.parametrize("together", [None, 1, 3])
@pytest.mark.parametrize("devices", [None, 8])
def test_equals_a_loop(network: Network, together: int | None, devices: int | None) -> None:
    variables, x, graph, loss = network
    keys = jax.random.split(jax.random.key(1), 10)
    gates = {
        name: jnp.stack([jax.random.bernoulli(k, 0.6, (g.width,)) * 1.0 for k in keys])
        for name, g in graph.groups.items()
    }
    gated = jax.jit(jc.gated(graph, loss))
    expected = [gated(variables, {n: g[i] for n, g in gates.items()}, x) for i in range(10)]
    mesh = None if devices is None else parallel.mesh(jax.devices()[:devices])
    traces = []

    def counted(params: PyTree, batch: Batch) -> jax.Array:
        traces.append(1)
        return loss(params, batch)

    run = jax.jit(
        lambda candidates: candidate_losses(
            graph, counted, variables, candidates, x, together=together, mesh=mesh
        )
    )
    np.testing.assert_allclose(run(gates), expected, rtol=1e-4)
    once = len(traces)
    run(jax.tree.map(lambda g: g[::-1], gates))
    assert len(traces) == once


def test_what_comes_before_the_first_difference_is_done_once(network: Network) -> None:
    """Groups given as [width] are shared; the convolution before them stays out of the loop."""
    variables, x, graph, loss = network
    names = list(graph.groups)
    keys = jax.random.split(jax.random.key(1), 6)
    draw = lambda n, k: jax.random.bernoulli(k, 0.6, (graph.groups[n].width,)) * 1.0  # noqa: E731
    gates = {names[0]: draw(names[0], keys[0])}
    gates[names[1]] = jnp.stack([draw(names[1], key) for key in keys])
    gated = jax.jit(jc.gated(graph, loss))
    expected = [gated(variables, {**gates, names[1]: mask}, x) for mask in gates[names[1]]]
    run = lambda candidates: candidate_losses(graph, loss, variables, candidates, x, together=1)  # noqa: E731
    np.testing.assert_allclose(run(gates), expected, rtol=1e-4)
    every = {**gates, names[0]: jnp.repeat(gates[names[0]][None], 6, axis=0)}
    inside = [_primitives_in_loop(jax.make_jaxpr(run)(candidates)) for candidates in (gates, every)]
    assert [primitives.count("dot_general") for primitives in inside] == [1, 2]
    # The convolution is gated where it is consumed.
    assert not any("conv_general_dilated" in primitives for primitives in inside)


def _primitives_in_loop(program: Any, inside: bool = False) -> list[str]:
    names = []
    for equation in program.jaxpr.eqns:
        names += [equation.primitive.name] if inside else []
        for inner in inner_jaxprs(equation):
            names += _primitives_in_loop(inner, inside or equation.primitive.name == "scan")
    return names


def test_hoisting_looks_into_jitted_calls() -> None:
    x = jnp.ones((3, 3))

    @jax.jit
    def inner(matrix: jax.Array, gate: jax.Array) -> dict[str, jax.Array]:
        product = matrix @ matrix
        return {"sum": product.sum() * gate, "matrix": matrix}

    function = lambda gate: (inner(x, gate), jnp.sin(gate))  # noqa: E731
    after = hoist(function, jnp.ones(()))
    rest = jax.make_jaxpr(after)(jnp.ones(()))
    assert "dot_general" not in str(rest)
    np.testing.assert_allclose(after(2.0)[0]["sum"], function(2.0)[0]["sum"])
    np.testing.assert_allclose(jax.grad(lambda g: after(g)[0]["sum"])(2.0), 27.0)


def test_chunks_follow_the_memory(network: Network) -> None:
    variables, x, _, loss = network
    largest = 4 * 5 * 5 * 6 * 4
    assert chunk_size(loss, variables, x, memory=4 * largest * 7) == 7
    assert chunk_size(jax.jit(loss), variables, x, memory=4 * largest * 7) == 7
    assert chunk_size(loss, variables, x, memory=1) == 1
    assert chunk_size(loss, variables, x) > 1000


def test_local_search_lowers_the_loss_at_the_budget(network: Network) -> None:
    variables, x, graph, loss = network
    scores = {name: jnp.zeros(group.width) for name, group in graph.groups.items()}
    budget = jc.Budget(flops=0.6)
    result = local_search(
        graph,
        loss,
        variables,
        scores,
        budget,
        x,
        key=jax.random.key(0),
        candidates=16,
        rounds=4,
        channel_noise=1.0,
    )
    assert (jnp.diff(result.loss) <= 0).all() and result.loss[-1] < 0.8 * result.loss[0]
    keep = jc.select(graph, result.scores, budget)
    gates = {name: jnp.asarray(mask, jnp.float32) for name, mask in keep.items()}
    value = jc.gated(graph, loss)(variables, gates, x)
    np.testing.assert_allclose(value, result.loss[-1], rtol=1e-4)


def test_errors(network: Network) -> None:
    variables, x, graph, loss = network
    with pytest.raises(ValueError, match="'nope'"):
        candidate_losses(graph, loss, variables, {"nope": jnp.ones((2, 3))}, x)
    with pytest.raises(ValueError, match="one number of candidates"):
        gates = {
            name: jnp.ones((2 + i, g.width)) for i, (name, g) in enumerate(graph.groups.items())
        }
        candidate_losses(graph, loss, variables, gates, x)
    with pytest.raises(ValueError, match="one number of candidates"):
        candidate_losses(graph, loss, variables, {"conv[3]": jnp.ones(6)}, x)
    with pytest.raises(ValueError, match="instead of"):
        candidate_losses(graph, loss, variables, {"conv[3]": jnp.ones((2, 5))}, x)
    with pytest.raises(ValueError, match=r"a loss is one real number"):
        candidate_losses(
            graph, lambda params, batch: batch, variables, {"conv[3]": jnp.ones((2, 6))}, x
        )
