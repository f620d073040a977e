"""Programs for many devices inside a network: what they split stays, the rest follows exactly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from jaxcompress.graph import trace
from jaxcompress.prune import gated, shrink
from tests.laws import close, differentiated, gates_of, random_keep
from tests.toys.record import draw, rows

WHOLE, ROWS_SPLIT = PartitionSpec(), PartitionSpec("devices")
VARIABLES = draw(3, {"first": (4, 8), "second": (8, 6), "third": (6, 2)})
ROWS = rows(8, 4)


def mapped(function: Any, count: int, in_specs: Any, out_specs: Any, check: bool = True) -> Any:
    """Map a function over simulated devices."""
    mesh = jax.make_mesh((count,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check
    )


def data_parallel(count: int, check: bool = True) -> Any:
    """Make a network whose rows lie on devices, and whose statistics are those of all rows."""

    def block(first: jax.Array, second: jax.Array, inputs: jax.Array) -> jax.Array:
        hidden = inputs @ first
        hidden = jnp.tanh(hidden - lax.pmean(hidden.mean(0), "devices"))
        return jnp.tanh(hidden @ second)

    run = mapped(block, count, (WHOLE, WHOLE, ROWS_SPLIT), ROWS_SPLIT, check)
    return lambda variables, inputs: (
        run(variables["first"], variables["second"], inputs) @ variables["third"]
    )


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("check", [True, False])
def test_rows_on_eight_devices_lose_channels_as_on_one(check: bool) -> None:
    apply = data_parallel(8, check)
    graph, one = trace(apply, VARIABLES, ROWS), trace(data_parallel(1), VARIABLES, ROWS)
    assert {n: g.width for n, g in graph.groups.items()} == {"first[1]": 8, "second[1]": 6}
    assert graph.flops == one.flops
    keep = random_keep(graph)
    prune, gates = shrink(graph, keep), gates_of(graph, keep)
    small = jax.jit(differentiated(prune.function(apply)))(prune.variables(VARIABLES), ROWS)
    masked = differentiated(lambda variables, rows: gated(graph, apply)(variables, gates, rows))
    output, _, gradient, others = jax.jit(masked)(VARIABLES, ROWS)
    close(small[0], output, 1e-5)
    close(small[2], prune.variables(gradient), 1e-5)
    close(small[3], others, 1e-5)
    one_output = jax.jit(prune.function(data_parallel(1)))(prune.variables(VARIABLES), ROWS)
    close(small[0], one_output, 1e-5)


def test_gates_of_a_mapped_program_have_gradients() -> None:
    apply = data_parallel(1)
    graph = trace(apply, VARIABLES, ROWS)
    gates = {n: jnp.linspace(0.5, 1.5, g.width) for n, g in graph.groups.items()}
    gradient = jax.jit(jax.grad(lambda gates: gated(graph, apply)(VARIABLES, gates, ROWS).sum()))

    def plain(gates: Any) -> jax.Array:
        hidden = ROWS @ VARIABLES["first"]
        hidden = jnp.tanh(hidden - hidden.mean(0))
        hidden = jnp.tanh((hidden * gates["first[1]"]) @ VARIABLES["second"])
        return ((hidden * gates["second[1]"]) @ VARIABLES["third"]).sum()

    close(gradient(gates), jax.grad(plain)(gates), 1e-5)


def test_channels_that_lie_on_devices_stay() -> None:
    def block(first: jax.Array, second: jax.Array, inputs: jax.Array) -> jax.Array:
        return lax.psum(jnp.tanh(inputs @ first) @ second, "devices")

    specs = PartitionSpec(None, "devices"), PartitionSpec("devices"), WHOLE
    run = mapped(block, 1, specs, WHOLE)
    graph = trace(
        lambda variables, rows: (
            jnp.tanh(run(variables["first"], variables["second"], rows)) @ variables["third"]
        ),
        VARIABLES,
        ROWS,
    )
    assert list(graph.groups) == ["second[1]"]
    reasons = {(entry.path, entry.axis): entry.reason for entry in graph.frozen}
    assert reasons["first", 1] == "shard_map splits it over devices"


COLLECTIVES = {
    "all_gather": lambda array: lax.all_gather(array, "devices", axis=0),
    "all_gather tiled": lambda array: lax.all_gather(array, "devices", axis=0, tiled=True),
    "psum_scatter": lambda array: lax.psum_scatter(array, "devices", tiled=True),
    "psum_scatter of one": lambda array: lax.psum_scatter(array[None], "devices"),
    "all_to_all": lambda array: lax.all_to_all(array, "devices", 0, 0, tiled=True),
    "ppermute": lambda array: lax.ppermute(array, "devices", [(0, 0)]),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_what_devices_send_each_other_loses_channels(name: str) -> None:
    def block(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = COLLECTIVES[name](jnp.tanh(inputs @ variables["first"]))
        hidden = hidden.reshape(-1, hidden.shape[-1])
        return jnp.tanh(hidden @ variables["second"]) @ variables["third"]

    apply = mapped(block, 1, (WHOLE, WHOLE), WHOLE, check=False)
    graph = trace(apply, VARIABLES, ROWS)
    assert {n: g.width for n, g in graph.groups.items()} == {"first[1]": 8, "second[1]": 6}
    keep = {n: np.arange(g.width) < 2 for n, g in graph.groups.items()}
    small = shrink(graph, keep)
    output = jax.jit(small.function(apply))(small.variables(VARIABLES), ROWS)
    close(output, gated(graph, apply)(VARIABLES, gates_of(graph, keep), ROWS), 1e-5)


def test_channels_that_devices_exchange_stay() -> None:
    def block(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])
        return lax.all_gather(hidden, "devices", axis=1, tiled=True) @ variables["second"]

    run = mapped(block, 1, (WHOLE, WHOLE), WHOLE, check=False)
    graph = trace(lambda v, rows: jnp.tanh(run(v, rows)) @ v["third"], VARIABLES, ROWS)
    assert list(graph.groups) == ["second[1]"]
    reasons = {(entry.path, entry.axis): entry.reason for entry in graph.frozen}
    assert reasons["first", 1] == "all_gather moves its indices between devices"
    assert "all_gather" in reasons["second", 0]
