"""Every search holds its budget, and each what it promises beyond that."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jaxcompress.graph import Budget
from jaxcompress.low_rank.ranks.arrays import (
    best_configurations,
    dense_cost,
    enc_inf,
    enc_map,
    enc_model,
    energy_metric,
    energy_threshold,
    evbmf_scaled,
    lossless,
    measured_metric,
    network_accuracy,
    optimum,
    site_table,
    spatial_cost,
    uniform,
)


def draw_table(sites, seed=0, rest=None):
    """Sites of four sizes with random spectra, every fourth of them strided."""
    random = np.random.default_rng(seed)
    names, costs, spectra, shapes = [], [], [], []
    for i in range(sites):
        inputs, outputs = 4 * 2 ** (i % 3), 4 * 2 ** ((i + 1) % 3)
        positions = 64 >> (i % 2)
        middle = 2 * positions if i % 4 == 3 else positions
        form = spatial_cost(inputs, outputs, (3, 3), positions, middle)
        costs.append(form if i % 5 else dense_cost(inputs * 3, outputs * 3))
        shapes.append((3 * inputs, 3 * outputs))
        names.append(f"site{i}")
        spectra.append(np.sort(random.gamma(0.6, size=3 * min(inputs, outputs)))[::-1])
    return site_table(names, costs, spectra, shapes, rest)


@pytest.fixture(scope="module")
def table():
    return draw_table(9, rest={"flops": 5_000.0, "params": 100.0})


SEARCHES = {
    "uniform": uniform,
    "energy_threshold": energy_threshold,
    "evbmf_scaled": evbmf_scaled,
    "enc_map": lambda t, b: enc_map(t, energy_metric(t), b),
    "enc_model": lambda t, b: enc_model(t, b, energy_metric(t)),
    "optimum": lambda t, b: optimum(t, energy_metric(t), b, cells=2_000).ranks,
}
BUDGETS = [
    Budget(flops=0.5),
    Budget(params=0.4),
    Budget(flops=0.6, params=0.45),
    Budget(flops=0.45, params=0.7),
    Budget(flops=1.0),
    Budget(flops=150_000.0),
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("name", SEARCHES)
def test_within_the_budget_and_the_range(table, name, budget):
    ranks = SEARCHES[name](table, budget)
    for kind, limit in table.ceilings(budget).items():
        assert table.cost(kind, ranks) <= limit * (1 + 1e-9)
    np.testing.assert_array_equal(ranks, table.clip(ranks))
    named = table.named(ranks).values()
    assert all(r is None or 1 <= r <= top for r, top in zip(named, table.r_max, strict=True))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_whole_budget_leaves_every_site_alone_or_at_most_at_r_max(table, name):
    ranks = SEARCHES[name](table, Budget(flops=1.0, params=1.0))
    assert table.cost("flops", ranks) == pytest.approx(table.total["flops"], rel=0.02)


@pytest.mark.parametrize("name", SEARCHES)
def test_unreachable_budgets_name_the_smallest(table, name):
    with pytest.raises(ValueError, match="(?s)flops.*smallest reachable is.*params.*smallest"):
        SEARCHES[name](table, Budget(flops=0.01, params=0.01))
    least = {k: float(table.cost(k, table.clip(table.lowest))) for k in ("flops", "params")}
    ranks = SEARCHES[name](table, Budget(**least))
    np.testing.assert_array_equal(ranks, table.clip(table.lowest))


@pytest.mark.parametrize("name", SEARCHES)
def test_fixed_sites_stay(table, name):
    held = table.fix({"site1": 2, "site3": None})
    named = held.named(SEARCHES[name](held, Budget(flops=0.6)))
    assert named["site1"] == 2 and named["site3"] is None


@pytest.mark.parametrize("seed", range(3))
def test_optimum_is_that_of_enumeration(seed):
    table = draw_table(4, seed)
    metric = energy_metric(table)
    low, high = table.clip(table.lowest), table.clip(table.highest)
    spans = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
    every = np.array(list(itertools.product(*spans)))
    for budget in (Budget(flops=0.4), Budget(params=0.5), Budget(flops=0.5, params=0.5)):
        fits = table.fits(every, table.ceilings(budget))
        best = network_accuracy(table, every[fits], metric).max()
        found = optimum(table, metric, budget)
        assert found.value <= best + 1e-9 <= found.bound + 2e-9
        if len(budget.ceilings()) == 1:
            assert found.value == pytest.approx(best, abs=1e-9)


def test_optimum_of_few_cells_is_bounded(table):
    metric = energy_metric(table)
    exact = optimum(table, metric, Budget(flops=0.5))
    rough = optimum(table, metric, Budget(flops=0.5), cells=40)
    assert exact.bound - exact.value < 1e-9
    assert rough.value <= exact.value + 1e-9 <= rough.bound + 2e-9


def test_candidates_of_few_sites_hold_the_best():
    # With steps of one and a corridor of everything, nothing is left out.
    table = draw_table(4)
    energy = energy_metric(table)
    budget = Budget(flops=0.5)
    found = enc_model(table, budget, energy, corridor=1.0, tolerance=1.0)
    best = optimum(table, energy, budget)
    assert float(network_accuracy(table, found, energy)) == pytest.approx(best.value)


def test_candidates_are_ordered_and_near_the_budget(table):
    energy = energy_metric(table)
    measured = measured_metric(table, [np.sqrt(k / k[-1]) for k in table.knots], full=1.0)
    for metrics in ((energy, None), (None, measured), (energy, measured)):
        found = best_configurations(table, Budget(flops=0.5), *metrics, count=10, density=1.0)
        scores = network_accuracy(table, found, *metrics)
        assert len(found) == 10 and (np.diff(scores) <= 1e-12).all()
        assert (table.cost("flops", found) >= 0.49 * table.total["flops"]).all()


def test_many_different_sites_still_end(monkeypatch):
    monkeypatch.setattr("jaxcompress.low_rank.ranks.candidates.MOST_COMBINATIONS", 50)
    table = draw_table(12)
    energy = energy_metric(table)
    ranks = enc_model(table, Budget(flops=0.5), energy)
    same = enc_map(table, energy, Budget(flops=0.5))
    assert network_accuracy(table, ranks, energy) >= network_accuracy(table, same, energy)


def test_inf_takes_the_most_accurate_candidate(table):
    seen = []

    def evaluate(ranks):
        seen.append(ranks)
        return 0.1 * len(seen) if len(seen) < 4 else 0.0

    found = enc_inf(table, Budget(flops=0.5), evaluate, energy_metric(table), count=6)
    assert len(seen) == 6 and found.accuracies.tolist() == pytest.approx([0.1, 0.2, 0.3, 0, 0, 0])
    np.testing.assert_array_equal(found.ranks, found.candidates[2])
    assert seen[2] == table.named(found.ranks)


def test_lossless_brackets_the_crossing(table):
    energy = energy_metric(table)

    def search(budget):
        return enc_map(table, energy, budget)

    def evaluate(ranks):
        named = [table.neutral[i] if r is None else r for i, r in enumerate(ranks.values())]
        return float(np.exp(network_accuracy(table, np.array(named), energy)))

    found = lossless(table, search, evaluate, baseline=0.2)
    passed = [t.share for t in found.trials if t.accuracy >= 0.2]
    failed = [t.share for t in found.trials if t.accuracy < 0.2]
    assert 0 < min(passed) - max(failed) <= 0.01
    assert evaluate(table.named(found.ranks)) >= 0.2
    assert lossless(table, search, evaluate, baseline=2.0).ranks is None
    cheap = lossless(table, search, evaluate, baseline=0.0)
    np.testing.assert_array_equal(cheap.ranks, table.clip(table.lowest))
