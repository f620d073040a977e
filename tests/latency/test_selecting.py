"""Selections under a ceiling of time: depth, groups that save none, time that is not monotone."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import recipes
from jaxcompress.graph import Budget, Graph, trace
from jaxcompress.graph.cost import Cost
from jaxcompress.latency import Grid, LatencyTable, latency_table, with_latency
from jaxcompress.prune import select


def scanned() -> Graph:
    """Six residual layers in a scan, each as long as its kernels are large."""
    layers = {"u": jnp.ones((6, 16, 32)), "d": jnp.ones((6, 32, 16))}

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        def layer(h: jax.Array, w: Any) -> tuple[jax.Array, None]:
            return h + jnp.tanh(h @ w["u"]) @ w["d"], None

        return jax.lax.scan(layer, x, variables["layers"])[0] @ variables["c"]

    graph = trace(apply, {"layers": layers, "c": jnp.ones((16, 4))}, jnp.ones((1, 16)))
    table = latency_table(
        graph, lambda _, inputs: float(inputs[1].size) * 1e-6, device="toy", how="by size"
    )
    return with_latency(graph, table)


def test_layers_of_a_scan_go_under_a_ceiling_of_time_as_under_one_of_flops() -> None:
    graph = scanned()
    scores = {
        name: np.full(group.width, 0.01 if group.is_depth else 1.0)
        for name, group in graph.groups.items()
    }
    flops, time = (
        select(graph, scores, budget) for budget in (Budget(flops=0.5), Budget(latency=0.5))
    )
    (depth,) = (name for name, group in graph.groups.items() if group.is_depth)
    assert flops[depth].sum() == time[depth].sum() < 6


def test_groups_that_save_no_time_stay_whole_by_learned_gates() -> None:
    shapes = {"a": (3, 8), "b": (8, 32), "c": (32, 4)}
    keys = jax.random.split(jax.random.key(0), 3)
    variables = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    apply = lambda v, x: jnp.tanh(jnp.tanh(x @ v["a"]) @ v["b"]) @ v["c"]  # noqa: E731
    x = jax.random.normal(jax.random.key(1), (16, 3))
    graph = trace(apply, variables, x)
    table = latency_table(
        graph, lambda _, inputs: float(inputs[1].size) * 1e-6, device="toy", how="by size"
    )
    learned = recipes.Learned(recipes.Fisher(rounds=1, examples=8), steps=2, examples=8)
    prune = recipes.prune(
        apply,
        variables,
        [x],
        Budget(latency=0.6),
        key=jax.random.key(2),
        graph=with_latency(graph, table),
        importance=learned,
    )
    small = prune.variables(variables)
    assert small["a"].shape == (3, 8) and small["b"].shape[1] < 32


BUMP = np.array([4.0, 2.0, 3.0, 5.0]) * 1e-5
"""Less than the fewest channels take."""


def bumpy() -> Graph:
    shapes = {"a": (3, 16), "b": (16, 16), "c": (16, 4)}
    variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
    apply = lambda v, x: jnp.tanh(jnp.tanh(x @ v["a"]) @ v["b"]) @ v["c"]  # noqa: E731
    graph, sizes = trace(apply, variables, jnp.ones((1, 3))), (4, 8, 12, 16)
    grids = {
        "a": Grid((sizes,), BUMP),
        "b": Grid((sizes, sizes), np.add.outer(BUMP, BUMP)),
        "c": Grid((sizes,), BUMP),
    }
    return with_latency(graph, LatencyTable("toy", "by hand", "float32", 1, grids))


def test_time_that_falls_as_channels_come_is_reached_or_refused_by_what_was_tried() -> None:
    graph = bumpy()
    scores = {"a[1]": np.arange(16.0), "b[1]": np.arange(16.0)}
    keep = select(graph, scores, Budget(latency=100.0))
    assert float(graph.cost.of("latency", graph.cost.widths(keep))) <= 100.0
    with pytest.raises(ValueError, match="no number of the best scored channels takes as little"):
        select(graph, scores, Budget(latency=10.0))


def test_beside_time_other_kinds_keep_all_of_their_widths() -> None:
    graph = bumpy()
    scores = {"a[1]": np.arange(16.0), "b[1]": np.arange(16.0)}
    alone = select(graph, scores, Budget(params=0.35))
    both = select(graph, scores, Budget(params=0.35, latency=1000.0))
    for name, mask in alone.items():
        np.testing.assert_array_equal(both[name], mask)


def test_a_table_of_another_batch_is_refused() -> None:
    other = trace(lambda v, x: x @ v, jnp.ones((3, 4)), jnp.ones((2, 3)))
    table = latency_table(other, lambda *_: 1e-6, device="toy", how="by hand")
    small = trace(lambda v, x: x @ v, jnp.ones((3, 4)), jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="batches of 1 of the graph, 2 of the table"):
        with_latency(small, table)


def test_selecting_keeps_no_graph_alive() -> None:
    def cost() -> weakref.ref[Cost]:
        graph = bumpy()
        select(graph, {"a[1]": np.arange(16.0)}, Budget(flops=0.9))
        return weakref.ref(graph.cost)

    reference = cost()
    gc.collect()
    assert reference() is None
