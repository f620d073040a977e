"""ENC's released ResNet-56: its knots, r_max and ranks come out again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.enc_fixture import load_fixture
from jaxcompress.graph import Budget
from jaxcompress.low_rank.ranks.arrays import (
    best_configurations,
    channel_cost,
    enc_map,
    enc_model,
    energy_metric,
    measured_metric,
    network_accuracy,
    optimum,
    rank_knots,
    spatial_cost,
)


@pytest.fixture(scope="module")
def released(shared):
    return load_fixture(shared / "enc_resnet56" / "reference.json")


@pytest.mark.parametrize(("name", "exact"), [("map_50", 55), ("map_55", 55)])
def test_equal_metric_gives_the_released_ranks(released, name, exact):
    table, _, ranks = released
    share = float(table.cost("flops", ranks[name])) / table.total["flops"]
    found = enc_map(table, energy_metric(table), Budget(flops=share))
    assert (found == ranks[name]).sum() == exact
    assert share == pytest.approx({"map_50": 0.5065, "map_55": 0.5507}[name], abs=5e-5)


def test_rounded_complexity_gives_them_too(released):
    table, _, ranks = released
    np.testing.assert_array_equal(
        enc_map(table, energy_metric(table), Budget(flops=0.5065)), ranks["map_50"]
    )


def test_knots_and_largest_ranks(released):
    table, _, _ = released
    for name, r_max, evbmf, knots in zip(
        table.names, table.r_max, table.evbmf, table.knots, strict=True
    ):
        np.testing.assert_array_equal(rank_knots(int(r_max), int(evbmf)), knots, err_msg=name)
    assert channel_cost(3, 16, (3, 3), 1024).r_max == 10
    widths = [(16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    found = {spatial_cost(i, o, (3, 3), 1).r_max for i, o in widths}
    assert found == set(table.r_max[1:].tolist())


def test_searches_beat_the_released_configurations(released):
    table, accuracies, ranks = released
    energy = energy_metric(table)
    budget = Budget(flops=float(table.cost("flops", ranks["model_50"])))
    theirs = float(network_accuracy(table, ranks["model_50"], energy))
    ours = enc_model(table, budget, energy)
    best = optimum(table, energy, budget)
    assert theirs < float(network_accuracy(table, ours, energy)) <= best.value
    assert best.bound - best.value < 1e-9
    for found in (ours, best.ranks):
        assert table.cost("flops", found) <= budget.flops
    both = best_configurations(
        table, budget, energy, measured_metric(table, accuracies, 0.985), count=20
    )
    assert len({tuple(row) for row in both}) == 20
    shares = table.cost("flops", both) / budget.flops
    assert ((shares <= 1) & (shares >= 0.994)).all()
