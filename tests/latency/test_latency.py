"""Latency as a budget: how a table is looked up, and what select makes of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.graph import trace
from jaxcompress.latency import (
    Grid,
    LatencyTable,
    with_latency,
)
from jaxcompress.prune import Scores, channel_costs, comparable_scores, straight_through
from jaxcompress.prune.learned.scores import log_costs
from tests.latency.toy import SCORES, apply, graph, latency, table, timed, variables


def test_latency_is_the_sum_of_the_table_over_operations() -> None:
    assert latency((16, 32)) == pytest.approx(2 + 12 + 4) == pytest.approx(1e6 * table().seconds)
    assert latency((8, 32)) == pytest.approx(1 + 12 + 4)
    assert latency((8, 9)) == latency((1, 16)) == pytest.approx(1 + 6 + 2)
    assert latency((0, 16)) == pytest.approx(0 + 0 + 2)


def test_lookup_is_exact_at_the_grid_and_never_falls_as_widths_grow() -> None:
    cost, made = timed().cost, table()
    values = np.array([[latency((n, m)) for m in range(33)] for n in range(17)])
    assert (np.diff(values, axis=0) >= 0).all() and (np.diff(values, axis=1) >= 0).all()
    for n in (8, 16):
        for m in (8, 16, 24, 32):
            parts = (("a", [n]), ("b", [m, n]), ("c", [m]))
            exact = 1e6 * sum(made.sites[name].at(widths) for name, widths in parts)
            assert values[n, m] == pytest.approx(exact)
    traced = jax.vmap(jax.vmap(lambda n, m: cost.latency(jnp.stack([n, m])), (None, 0)), (0, None))
    both = traced(jnp.arange(17.0), jnp.arange(33.0))
    np.testing.assert_allclose(both, values, rtol=1e-6)


def test_a_width_that_takes_longer_than_a_wider_one_is_left_for_it() -> None:
    grid = Grid(((8, 16, 24, 32),), 1e-6 * np.array([1.0, 2.0, 90.0, 4.0]))
    sites = {**table().sites, "c": grid}
    network = with_latency(graph(), LatencyTable("toy", "by hand", "float32", 4, sites))
    assert float(network.cost.of("latency", np.array([16, 24]))) == pytest.approx(2 + 9 + 90)
    for part in np.linspace(0.3, 1.0, 8):
        keep = jc.select(network, SCORES, jc.Budget(latency=float(part)))
        widths = network.cost.widths(keep)
        assert widths[1] in (8, 16, 32)
        assert network.cost.of("latency", widths) <= part * network.cost.of("latency")
        traced = jc.threshold(network.cost, SCORES, jc.Budget(latency=float(part)).of(network))
        assert all(
            (np.asarray(traced[name]) > 0.5).tolist() == keep[name].tolist() for name in keep
        )
    shares = network.cost.widths(
        jc.select(network, SCORES, jc.Budget(latency=1.0), max_share=0.6, multiple_of=4)
    )
    assert shares.tolist() == [8, 16]


def test_latency_has_the_slope_of_the_line_to_the_knot_before() -> None:
    slope = jax.grad(timed().cost.latency)(jnp.array([16.0, 20.0]))
    # One output more of eight costs 1 / 8 of 3 + 1; the inputs of b cost nothing, those of a 1 / 8.
    np.testing.assert_allclose(slope, [1 / 8, (3 + 1) / 8], rtol=1e-6)


@pytest.mark.parametrize("part", [0.3, 0.4, 0.5, 0.8, 1.0])
def test_select_fits_the_table_and_no_further_channel_does(part: float) -> None:
    network = timed()
    keep = jc.select(network, SCORES, jc.Budget(latency=part))
    widths = network.cost.widths(keep)
    whole, left = latency((16, 32)), latency((int(widths[0]), int(widths[1])))
    assert left <= part * whole
    for place, name in enumerate(network.cost.names):
        more = widths + np.eye(2, dtype=int)[place]
        if widths[place] < network.groups[name].width:
            assert float(network.cost.of("latency", more)) > part * whole
    # Free channels are kept: widths end where time does.
    assert all(width % 8 == 0 for width in widths)


def test_flops_and_latency_hold_together() -> None:
    network = timed()
    budget = jc.Budget(flops=0.5, latency=0.5)
    widths = network.cost.widths(jc.select(network, SCORES, budget))
    for kind in ("flops", "latency"):
        assert network.cost.of(kind, widths) <= 0.5 * network.cost.of(kind)


def test_a_latency_that_nothing_reaches_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"latency <= 1.8 .* the smallest reachable is 5, 0.278 of 18"
    ):
        jc.select(timed(), SCORES, jc.Budget(latency=0.1))
    with pytest.raises(ValueError, match="looked up in a table of measured times"):
        jc.select(graph(), SCORES, jc.Budget(latency=0.5))


def test_a_shrunk_network_goes_by_the_same_table() -> None:
    network = timed()
    keep = jc.select(network, SCORES, jc.Budget(latency=0.5))
    prune = jc.shrink(network, keep)
    small = with_latency(
        trace(prune.function(apply), prune.variables(variables()), jnp.ones((4, 3))), table()
    )
    widths = network.cost.widths(keep)
    assert small.cost.of("latency") == network.cost.of("latency", widths)


def test_channel_costs_are_what_all_but_one_save() -> None:
    costs = channel_costs(timed(), "latency")
    assert costs == pytest.approx({"a[1]": (18 - 17) / 15, "b[1]": (18 - (2 + 3 + 1)) / 31})
    raw = Scores({"b[1]": np.ones(32)}, "taylor", "raw gradient", 1.0)
    made = comparable_scores(timed().cost, raw, ("latency",))["b[1]"]
    np.testing.assert_allclose(made, 31 / 12, rtol=1e-6)


def test_gates_learn_under_latency() -> None:
    network = timed()
    absolute = jc.Budget(latency=0.5).of(network)
    assert all(np.isfinite(list(log_costs(network, jc.Budget(latency=0.5)).values())))
    scores = {name: jnp.asarray(score) for name, score in SCORES.items()}

    def total(scores: dict[str, jax.Array]) -> jax.Array:
        gates = straight_through(network.cost, scores, absolute)
        parts = [jnp.sum(gate * jnp.arange(len(gate))) for gate in gates.values()]
        return jnp.stack(parts).sum()

    slopes = jax.grad(total)(scores)
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert any(np.abs(slope).max() > 0 for slope in slopes.values())
