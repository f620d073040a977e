"""Law 9: under every transformation of JAX, and on several devices, the same values."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress.graph import trace
from jaxcompress.prune import gated, shrink
from tests.laws import (
    close,
    difference,
    gates_of,
    graph_of,
    random_keep,
    toy_of,
)
from tests.toys.record import initial

FEW = ["concatenation", "fused_attention", "channel_shuffle", "straight_through"]


# Law 9: under every transformation of JAX the same values, and one compilation per shape.


@pytest.mark.parametrize("name", FEW)
def test_jit_changes_nothing(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    prune = shrink(graph, random_keep(graph))
    variables, gates = prune.variables(toy.variables), gates_of(graph, random_keep(graph))
    small, function = prune.function(toy.apply), gated(graph, toy.apply)
    close(small(variables, *toy.inputs), jax.jit(small)(variables, *toy.inputs), toy.tolerance)
    close(
        function(toy.variables, gates, *toy.inputs),
        jax.jit(function)(toy.variables, gates, *toy.inputs),
        toy.tolerance,
    )


OTHERS = ["flatten", "scanned", "loops", "kernel_left", "low_rank", "residual_inside"]


@pytest.mark.parametrize("name", [*FEW, *OTHERS, "tangent_inside", "mapped_over_devices"])
def test_vmap_over_gates_is_a_loop(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    candidates = [gates_of(graph, random_keep(graph, seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *candidates)
    function = gated(graph, toy.apply)
    run = jax.jit(lambda gates: function(toy.variables, gates, *toy.inputs))
    alone = [run(one) for one in candidates]
    assert difference(alone[0], alone[1]) > 0
    close(jax.jit(jax.vmap(run))(stacked), jnp.stack(alone), toy.tolerance)


def test_one_compilation_per_shape() -> None:
    toy, graph = toy_of("concatenation"), graph_of("concatenation")
    traced = []

    def counted(variables: Any, images: Any) -> Any:
        traced.append(images.shape)
        return toy.apply(variables, images)

    prune = shrink(graph, random_keep(graph))
    variables, (images,) = prune.variables(toy.variables), toy.inputs
    small = jax.jit(prune.function(counted))
    for batch in (images, images + 1, images[:1], images[:1] + 1):
        small(variables, batch)
    assert len(traced) == 2
    function = jax.jit(gated(graph, counted))
    for seed in range(3):
        function(toy.variables, gates_of(graph, random_keep(graph, seed)), images)
    assert len(traced) == 3


# Law 9, continued: with an axis name, on 8 simulated devices.


class _Synchronised(nn.Module):
    @nn.compact
    def __call__(self, rows: jax.Array, axis_name: str | None) -> jax.Array:
        hidden = nn.Dense(6)(rows)
        hidden = nn.BatchNorm(use_running_average=False, axis_name=axis_name)(hidden)
        return nn.Dense(2)(nn.gelu(hidden))


def _step(variables: Any, rows: Any, axis_name: str | None = None) -> Any:
    """Return the mean squared output and the new statistics, averaged over the devices."""
    output, state = _Synchronised().apply(variables, rows, axis_name, mutable=["batch_stats"])
    loss = jnp.square(output).mean()
    return (loss if axis_name is None else jax.lax.pmean(loss, axis_name)), state


def _on_devices(function: Any, kind: str) -> Any:
    """Run `function(variables, rows)` on 8 devices and return the first device's result."""
    if kind == "pmap":
        run = jax.pmap(function, axis_name="devices", in_axes=(None, 0))
        split = lambda rows: rows.reshape(8, -1, *rows.shape[1:])  # noqa: E731
        return lambda variables, rows: jax.tree.map(lambda a: a[0], run(variables, split(rows)))
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, sharded = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("devices")
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=(everywhere, sharded), out_specs=everywhere)
    )


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_devices_give_the_result_of_one(kind: str) -> None:
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(16, 4)), jnp.float32)
    variables = initial(_Synchronised(), rows, None)
    graph = trace(_step, variables, rows, output=lambda result: result[0])
    keep = random_keep(graph)
    prune, gates = shrink(graph, keep), gates_of(graph, keep)
    synchronised = functools.partial(_step, axis_name="devices")

    small = prune.variables(variables)
    expected = prune.function(_step)(small, rows)
    close(_on_devices(prune.function(synchronised), kind)(small, rows), expected, 1e-5)

    expected = gated(graph, _step)(variables, gates, rows)
    function = gated(graph, synchronised)
    run = _on_devices(lambda variables, rows: function(variables, gates, rows), kind)
    close(run(variables, rows), expected, 1e-5)
