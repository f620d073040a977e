"""ENC's released ResNet-56: its knots, r_max and ranks come out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.enc_fixture import load_fixture
from jaxcompress.graph import Budget
from jaxcompress.low_rank import ranks
from jaxcompress.low_rank.ranks import Sites
from jaxcompress.low_rank.ranks.from_costs import rank_knots

Released = tuple[Sites, list[np.ndarray], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def released(shared: Path) -> Released:
    return load_fixture(shared / "enc_resnet56" / "reference.json")


@pytest.mark.parametrize(("name", "exact"), [("map_50", 55), ("map_55", 55)])
def test_equal_metric_gives_the_released_ranks(released: Released, name: str, exact: int) -> None:
    sites, _, theirs = released
    share = float(sites.cost("flops", theirs[name])) / sites.total["flops"]
    chosen = sites.array(ranks.enc_map(sites, Budget(flops=share)))
    assert (chosen == theirs[name]).sum() == exact
    assert share == pytest.approx({"map_50": 0.5065, "map_55": 0.5507}[name], abs=5e-5)


def test_rounded_complexity_gives_them_too(
    released: Released,
) -> None:
    sites, _, theirs = released
    chosen = sites.array(ranks.enc_map(sites, Budget(flops=0.5065)))
    np.testing.assert_array_equal(chosen, theirs["map_50"])


def test_knots_and_largest_ranks(
    released: Released,
) -> None:
    sites, _, _ = released
    for name, r_max, evbmf, knots in zip(
        sites.names, sites.r_max, sites.evbmf, sites.knots, strict=True
    ):
        np.testing.assert_array_equal(rank_knots(int(r_max), int(evbmf)), knots, err_msg=name)
    assert ranks.channel_cost(3, 16, (3, 3), 1024).r_max == 10
    widths = [(16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    largest = {ranks.spatial_cost(i, o, (3, 3), 1).r_max for i, o in widths}
    assert largest == set(sites.r_max[1:].tolist())


def test_searches_beat_the_released_configurations(
    released: Released,
) -> None:
    sites, accuracies, theirs = released
    energy = ranks.energy_metric(sites)
    budget = Budget(flops=float(sites.cost("flops", theirs["model_50"])))
    value = float(ranks.network_accuracy(sites, theirs["model_50"], energy))
    ours = sites.array(ranks.enc_model(sites, budget))
    best = ranks.bounded_optimum(sites, budget)
    assert value < float(ranks.network_accuracy(sites, ours, energy)) <= best.value
    assert best.bound - best.value < 1e-9
    for chosen in (ours, sites.array(best.ranks)):
        assert sites.cost("flops", chosen) <= budget.flops
    pair = energy, ranks.measured_metric(sites, accuracies, 0.985)
    both = [
        sites.array(chosen)
        for chosen in ranks.best_configurations(sites, budget, count=20, metric=pair)
    ]
    assert len({tuple(row) for row in both}) == 20
    shares = sites.cost("flops", np.array(both)) / budget.flops
    assert ((shares <= 1) & (shares >= 0.994)).all()
