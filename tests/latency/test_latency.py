"""Latency as a budget: tables, their lookup, what select makes of them, what they refuse."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.graph import Graph, trace
from jaxcompress.latency import (
    Grid,
    LatencyTable,
    latency_changes,
    load_table,
    measured_latency,
    save_table,
    suggested_multiple,
    width_grid,
    with_latency,
)
from jaxcompress.prune import Scores, channel_costs, comparable_scores, straight_through
from jaxcompress.prune.learned.scores import log_costs

SHAPES = {"a": (3, 16), "b": (16, 32), "c": (32, 2)}


def apply(variables: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for name in ("a", "b"):
        x = jnp.tanh(x @ variables[name])
    return x @ variables["c"]


def variables(shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def graph() -> Graph:
    return trace(apply, variables(), jnp.ones((4, 3)))


def table() -> LatencyTable:
    """Time in steps of eight outputs of each dot, and of sixteen inputs of the second."""
    wide, narrow = (8, 16, 24, 32), (8, 16)
    rows = np.array([1.0, 2.0, 3.0, 4.0])[:, None]
    second = Grid((wide, narrow), 1e-6 * rows * np.array([[3.0, 3.0]]))
    first, third = (
        Grid((narrow,), 1e-6 * np.array([1.0, 2.0])),
        Grid((wide,), 1e-6 * rows[:, 0]),
    )
    return LatencyTable("toy", "by hand", "float32", 4, {"a": first, "b": second, "c": third})


def timed() -> Graph:
    return with_latency(graph(), table())


def latency(widths: tuple[int, int]) -> float:
    return float(timed().cost.of("latency", np.asarray(widths)))


SCORES = {"a[1]": np.arange(16.0), "b[1]": np.arange(32.0) / 2}


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
    with pytest.raises(ValueError, match="latency <= 2, but the smallest reachable is 5"):
        jc.select(timed(), SCORES, jc.Budget(latency=0.1))
    with pytest.raises(ValueError, match="looked up in a table of measured times"):
        jc.select(graph(), SCORES, jc.Budget(latency=0.5))


def test_a_table_of_another_network_is_refused_by_site() -> None:
    other = trace(lambda v, x: x @ v["a"] @ v["d"], variables({"a": (3, 24), "d": (24, 2)}), X)
    with pytest.raises(ValueError) as error:
        with_latency(other, table())
    for part in ("d: not in the table", "b: not in the graph", "a: widths (24,)", "(16,) of the"):
        assert part in str(error.value)


X = jnp.ones((4, 3))


def test_a_shrunk_network_goes_by_the_same_table() -> None:
    network = timed()
    keep = jc.select(network, SCORES, jc.Budget(latency=0.5))
    prune = jc.shrink(network, keep)
    small = with_latency(trace(prune.function(apply), prune.variables(variables()), X), table())
    widths = network.cost.widths(keep)
    assert small.cost.of("latency") == network.cost.of("latency", widths)


def test_a_table_survives_json(tmp_path: Path) -> None:
    save_table(tmp_path / "table.json", table())
    back = load_table(tmp_path / "table.json")
    assert list(back.sites) == list(table().sites)
    assert (back.device, back.how, back.dtype, back.batch) == ("toy", "by hand", "float32", 4)
    for name, grid in table().sites.items():
        assert back.sites[name].widths == grid.widths
        np.testing.assert_array_equal(back.sites[name].seconds, grid.seconds)
    assert str(back) == str(table())


@pytest.mark.parametrize(
    ("widths", "seconds"),
    [((8, 8), [1.0, 2.0]), ((8, 16), [1.0]), ((8, 16), [1.0, np.nan]), ((8, 16), [0.0, 1.0])],
)
def test_a_grid_that_is_none_is_refused(widths: tuple[int, ...], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="positive time at each of rising widths, but a: "):
        LatencyTable("toy", "", "float32", 1, {"a": Grid((widths,), np.array(seconds))})


def test_flops_that_save_no_time_are_warned_of() -> None:
    keep = {"b[1]": np.arange(32) < 25}
    with pytest.warns(UserWarning, match=r"are left, but 100% of the latency"):
        changes = latency_changes(graph(), table(), keep)
    assert changes.flops < 0.85 and changes.seconds == 1 and len(changes.idle) == 2
    assert "warning: " in str(changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changes = latency_changes(graph(), table(), {"b[1]": np.arange(32) < 16})
    assert changes.seconds == pytest.approx((2 + 6 + 2) / 18) and not changes.idle


def test_the_multiple_is_that_of_most_of_the_time() -> None:
    # b takes two thirds of the time, in steps of 8 outputs; its inputs save nothing.
    assert suggested_multiple(table()) == 8
    flat = Grid(((8, 16),), np.ones(2))
    with pytest.raises(ValueError, match="no axis of the table does"):
        suggested_multiple(LatencyTable("toy", "", "float32", 1, {"a": flat}))


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
        return sum(jnp.sum(gate * jnp.arange(len(gate))) for gate in gates.values())

    slopes = jax.grad(total)(scores)
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert any(np.abs(slope).max() > 0 for slope in slopes.values())


def test_a_measured_table_fits_its_graph() -> None:
    measured = measured_latency(graph(), repeats=2, grid=partial(width_grid, points=2))
    assert measured.batch == 4 and measured.dtype == "float32" and measured.how == "measured"
    assert measured.sites["b"].widths == ((16, 32), (8, 16))
    whole = with_latency(graph(), measured).cost.of("latency")
    assert 0 < whole <= 1e6 * measured.seconds * (1 + 1e-9)


def test_a_grid_ends_at_the_whole() -> None:
    assert width_grid(5) == (5,) and width_grid(100, points=3) == (40, 80, 100)
