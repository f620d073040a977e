"""Tables of latencies: how they are made, kept and read, and what they refuse."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.graph import Operation, trace
from jaxcompress.latency import (
    Grid,
    LatencyTable,
    latency_changes,
    latency_table,
    load_table,
    measured_latency,
    save_table,
    suggested_multiple,
    width_grid,
    with_latency,
)
from tests.latency.toy import SCORES, graph, table, variables


def test_a_table_of_another_network_is_refused_by_site() -> None:
    other = trace(
        lambda v, x: x @ v["a"] @ v["d"], variables({"a": (3, 24), "d": (24, 2)}), jnp.ones((4, 3))
    )
    with pytest.raises(ValueError) as error:
        with_latency(other, table())
    for part in ("d: not in the table", "b: not in the graph", "a: widths (24,)", "(16,) of the"):
        assert part in str(error.value)


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


def test_a_measured_table_fits_its_graph() -> None:
    measured = measured_latency(graph(), repeats=2, grid=partial(width_grid, points=2))
    assert measured.batch == 4 and measured.dtype == "float32" and measured.how == "measured"
    assert measured.sites["b"].widths == ((16, 32), (8, 16))
    whole = with_latency(graph(), measured).cost.of("latency")
    assert 0 < whole <= 1e6 * measured.seconds * (1 + 1e-9)


def test_axes_of_groups_that_stay_are_taken_whole() -> None:
    asked = []

    def seconds(operation: Operation, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> float:
        asked.append((operation.name, inputs[1].shape))
        return float(inputs[1].size)

    made = latency_table(graph(), seconds, device="toy", how="sizes", groups=["b[1]"])
    assert made.sites["b"].widths == ((8, 16, 24, 32), (16,))
    assert [shape for name, shape in asked if name == "a"] == [(3, 16)]
    keep = jc.select(with_latency(graph(), made), {"b[1]": SCORES["b[1]"]}, jc.Budget(latency=0.6))
    assert keep["b[1]"].sum() == 16
    with pytest.raises(ValueError, match=r"groups are of the graph, but \['d\[1\]'\] are not"):
        latency_table(graph(), seconds, device="toy", how="sizes", groups=["d[1]"])


def test_operations_of_the_same_shape_are_asked_for_once() -> None:
    twice = {"a": (4, 8), "b": (8, 4), "c": (4, 8), "d": (8, 4)}
    asked = []

    def seconds(operation: Operation, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> float:
        asked.append(operation.name)
        return 1.0

    def chain(variables: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        for name in twice:
            x = x @ variables[name]
        return x

    network = trace(chain, variables(twice), jnp.ones((4, 4)))
    whole = latency_table(network, seconds, device="toy", how="once", grid=lambda width: [width])
    # The input of the first and the output of the last are fixed; of the others none is.
    assert list(whole.sites) == list(twice) and len(asked) == len(set(asked)) <= 4
    both = latency_table(
        network, seconds, device="toy", how="once", groups=[], grid=lambda width: [width]
    )
    assert both.seconds == 4


def test_a_grid_ends_at_the_whole() -> None:
    assert width_grid(5) == (5,) and width_grid(100, points=3) == (40, 80, 100)
