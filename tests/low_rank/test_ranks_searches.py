"""Every search holds its budget, and each what it promises beyond that."""

from __future__ import annotations

import functools
import inspect
import itertools

import numpy as np
import pytest

from jaxcompress.graph import Budget
from jaxcompress.low_rank import ranks
from jaxcompress.low_rank.ranks import Ranks, Sites, network_accuracy


def draw_sites(number: int, seed: int = 0, rest: dict[str, float] | None = None) -> Sites:
    """Sites of four sizes with random spectra, every fourth of them strided."""
    random = np.random.default_rng(seed)
    names, costs, spectra, shapes = [], [], [], []
    for i in range(number):
        inputs, outputs = 4 * 2 ** (i % 3), 4 * 2 ** ((i + 1) % 3)
        positions = 64 >> (i % 2)
        middle = 2 * positions if i % 4 == 3 else positions
        form = ranks.spatial_cost(inputs, outputs, (3, 3), positions, middle)
        costs.append(form if i % 5 else ranks.dense_cost(inputs * 3, outputs * 3))
        shapes.append((3 * inputs, 3 * outputs))
        names.append(f"site{i}")
        spectra.append(np.sort(random.gamma(0.6, size=3 * min(inputs, outputs)))[::-1])
    return ranks.sites_from_costs(names, costs, spectra, shapes, rest=rest)


@pytest.fixture(scope="module")
def sites() -> Sites:
    return draw_sites(9, rest={"flops": 5_000.0, "params": 100.0})


SEARCHES: dict[str, ranks.Search] = {
    "uniform": ranks.uniform,
    "energy_threshold": ranks.energy_threshold,
    "evbmf_scaled": ranks.evbmf_scaled,
    "enc_map": ranks.enc_map,
    "enc_model": ranks.enc_model,
    "enc_inf": functools.partial(ranks.enc_inf, evaluate=lambda chosen: 0.0, count=4),
    "optimum": functools.partial(ranks.optimum, cells=2_000),
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
def test_within_the_budget_and_the_range(sites: Sites, name: str, budget: Budget) -> None:
    chosen = SEARCHES[name](sites, budget)
    array = sites.array(chosen)
    for kind, limit in sites.ceilings(budget).items():
        assert sites.cost(kind, array) <= limit * (1 + 1e-9)
    np.testing.assert_array_equal(array, sites.clip(array))
    pairs = zip(chosen.values(), sites.r_max, strict=True)
    assert all(rank is None or 1 <= rank <= top for rank, top in pairs)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_whole_budget_leaves_every_site_alone_or_at_most_at_r_max(
    sites: Sites, name: str
) -> None:
    chosen = sites.array(SEARCHES[name](sites, Budget(flops=1.0, params=1.0)))
    assert sites.cost("flops", chosen) == pytest.approx(sites.total["flops"], rel=0.02)


@pytest.mark.parametrize("name", SEARCHES)
def test_unreachable_budgets_name_the_smallest(sites: Sites, name: str) -> None:
    with pytest.raises(ValueError, match="(?s)flops.*smallest reachable is.*params.*smallest"):
        SEARCHES[name](sites, Budget(flops=0.01, params=0.01))
    lowest = sites.clip(sites.lowest)
    least = {k: float(sites.cost(k, lowest)) for k in ("flops", "params")}
    assert SEARCHES[name](sites, Budget(**least)) == sites.named(lowest)


@pytest.mark.parametrize("name", SEARCHES)
def test_fixed_sites_stay(sites: Sites, name: str) -> None:
    held = sites.fix({"site1": 2, "site3": None})
    chosen = SEARCHES[name](held, Budget(flops=0.6))
    assert chosen["site1"] == 2 and chosen["site3"] is None


def test_every_exported_search_is_held_to_these() -> None:
    """What takes sites and a budget and returns ranks is a search."""
    exported = {
        name
        for name in ranks.__all__
        if inspect.isfunction(function := getattr(ranks, name))
        and inspect.signature(function).return_annotation == "Ranks"
    }
    assert exported == set(SEARCHES)
    for name in exported:
        sites, budget, *options = inspect.signature(getattr(ranks, name)).parameters.values()
        assert (sites.annotation, budget.annotation) == ("Sites", "Budget")
        assert all(option.kind is option.KEYWORD_ONLY for option in options)


def test_ranks_as_an_array_and_back(sites: Sites) -> None:
    given = {name: 1 for name in sites.names} | {"site3": None}
    assert sites.named(sites.array(given)) == given
    assert sites.named(sites.array({"site1": 2}))["site3"] is None
    with pytest.raises(ValueError, match="nowhere"):
        sites.array({"nowhere": 1})


@pytest.mark.parametrize("kind", ["flops", "params"])
def test_the_cost_of_one_site_is_that_among_all(sites: Sites, kind: str) -> None:
    for site, neutral in enumerate(sites.neutral):
        ranks_of_one = np.arange(1, neutral + 2)
        every = np.tile(sites.lowest, (len(ranks_of_one), 1))
        every[:, site] = ranks_of_one
        np.testing.assert_array_equal(
            sites.costs_of(site, kind, ranks_of_one), sites.site_costs(kind, every)[:, site]
        )


@pytest.mark.parametrize("seed", range(3))
def test_optimum_is_that_of_enumeration(seed: int) -> None:
    sites = draw_sites(4, seed)
    low, high = sites.clip(sites.lowest), sites.clip(sites.highest)
    spans = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
    every = np.array(list(itertools.product(*spans)))
    for budget in (Budget(flops=0.4), Budget(params=0.5), Budget(flops=0.5, params=0.5)):
        fits = sites.fits(every, sites.ceilings(budget))
        largest = network_accuracy(sites, every[fits]).max()
        best = ranks.bounded_optimum(sites, budget)
        assert best.value <= largest + 1e-9 <= best.bound + 2e-9
        if len(budget.ceilings()) == 1:
            assert best.value == pytest.approx(largest, abs=1e-9)


def test_optimum_of_few_cells_is_bounded(sites: Sites) -> None:
    exact = ranks.bounded_optimum(sites, Budget(flops=0.5))
    rough = ranks.bounded_optimum(sites, Budget(flops=0.5), cells=40)
    assert exact.bound - exact.value < 1e-9
    assert rough.value <= exact.value + 1e-9 <= rough.bound + 2e-9


def test_candidates_of_few_sites_hold_the_best() -> None:
    # With steps of one and a corridor of everything, nothing is left out.
    sites, budget = draw_sites(4), Budget(flops=0.5)
    space = ranks.CandidateSpace(corridor=1.0, tolerance=1.0, density=1.0)
    chosen = ranks.enc_model(sites, budget, space=space)
    best = ranks.bounded_optimum(sites, budget)
    value = float(network_accuracy(sites, sites.array(chosen)))
    assert value == pytest.approx(best.value)


def test_candidates_are_ordered_and_near_the_budget(sites: Sites) -> None:
    energy = ranks.energy_metric(sites)
    measured = ranks.measured_metric(sites, [np.sqrt(k / k[-1]) for k in sites.knots], full=1.0)
    space = ranks.CandidateSpace(density=1.0)
    for metric in (energy, measured, (energy, measured)):
        chosen = ranks.best_configurations(
            sites, Budget(flops=0.5), count=10, metric=metric, space=space
        )
        arrays = np.array([sites.array(each) for each in chosen])
        scores = network_accuracy(sites, arrays, metric)
        assert len(chosen) == 10 and (np.diff(scores) <= 1e-12).all()
        assert (sites.cost("flops", arrays) >= 0.49 * sites.total["flops"]).all()


def test_many_different_sites_still_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxcompress.low_rank.ranks.folds.MOST_COMBINATIONS", 50)
    sites, budget = draw_sites(12), Budget(flops=0.5)
    values = [
        network_accuracy(sites, sites.array(search(sites, budget)))
        for search in (ranks.enc_model, ranks.enc_map)
    ]
    assert values[0] >= values[1]


def test_inf_takes_the_most_accurate_candidate(sites: Sites) -> None:
    seen, budget = [], Budget(flops=0.5)

    def evaluate(chosen: Ranks) -> float:
        seen.append(chosen)
        return 0.1 * len(seen) if len(seen) < 4 else 0.0

    chosen = ranks.enc_inf(sites, budget, evaluate=evaluate, count=6)
    assert seen == ranks.best_configurations(sites, budget, count=6)
    assert chosen == seen[2]


def test_lossless_brackets_the_crossing(sites: Sites) -> None:
    def evaluate(chosen: Ranks) -> float:
        return float(np.exp(network_accuracy(sites, sites.array(chosen))))

    smallest = ranks.lossless(sites, ranks.enc_map, evaluate, baseline=0.2)
    passed = [t.share for t in smallest.trials if t.accuracy >= 0.2]
    failed = [t.share for t in smallest.trials if t.accuracy < 0.2]
    assert 0 < min(passed) - max(failed) <= 0.01
    assert smallest.ranks is not None and evaluate(smallest.ranks) >= 0.2
    assert ranks.lossless(sites, ranks.enc_map, evaluate, baseline=2.0).ranks is None
    cheap = ranks.lossless(sites, ranks.enc_map, evaluate, baseline=0.0)
    assert cheap.ranks == sites.named(sites.clip(sites.lowest))
