"""Ranks that are multiples of a number: every search, within the budget."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.graph import Budget
from jaxcompress.low_rank import factorize, ranks
from tests.low_rank.test_ranks_searches import SEARCHES, draw_sites
from tests.toys.record import draw, rows

BUDGETS = [Budget(flops=0.5), Budget(params=0.6), Budget(flops=0.6, params=0.7), Budget(flops=1.0)]


@pytest.fixture(scope="module", params=[2, 3, 4, 8])
def sites(request: pytest.FixtureRequest) -> ranks.Sites:
    whole = draw_sites(9, rest={"flops": 5_000.0, "params": 100.0})
    return dataclasses.replace(whole, multiple_of=np.full(9, request.param))


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("name", SEARCHES)
def test_ranks_are_multiples_or_none_within_the_budget(
    sites: ranks.Sites, name: str, budget: Budget
) -> None:
    lowest = sites.clip(sites.lowest)
    if not sites.fits(lowest, sites.ceilings(budget)):
        with pytest.raises(ValueError, match="smallest reachable"):
            SEARCHES[name](sites, budget)
        return
    chosen = SEARCHES[name](sites, budget)
    step = sites.multiple_of[0]
    assert all(rank is None or rank % step == 0 for rank in chosen.values())
    array = sites.array(chosen)
    np.testing.assert_array_equal(array, sites.clip(array))
    for kind, limit in sites.ceilings(budget).items():
        assert sites.cost(kind, array) <= limit * (1 + 1e-9)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_lowest_ranks_are_reached(sites: ranks.Sites, name: str) -> None:
    lowest = sites.clip(sites.lowest)
    least = {kind: float(sites.cost(kind, lowest)) for kind in ("flops", "params")}
    assert SEARCHES[name](sites, Budget(**least)) == sites.named(lowest)


@pytest.mark.parametrize("name", SEARCHES)
def test_held_ranks_stay_as_they_are(sites: ranks.Sites, name: str) -> None:
    held = sites.fix({"site1": 3, "site3": None})
    chosen = SEARCHES[name](held, Budget(flops=0.9))
    assert chosen["site1"] == 3 and chosen["site3"] is None


@pytest.mark.parametrize("name", SEARCHES)
def test_multiples_of_one_change_nothing(name: str) -> None:
    plain = draw_sites(9)
    for one in (np.ones((), np.int64), np.ones(9, np.int64)):
        given = dataclasses.replace(plain, multiple_of=one)
        chosen = SEARCHES[name](given, Budget(flops=0.5))
        assert chosen == SEARCHES[name](plain, Budget(flops=0.5))


def test_clipping_is_to_the_nearest_allowed_rank(sites: ranks.Sites) -> None:
    for site, name in enumerate(sites.names):
        neutral, step = int(sites.neutral[site]), int(sites.multiple_of[site])
        least = -(-int(sites.lowest[site]) // step) * step
        allowed = np.array([*range(least, min(int(sites.r_max[site]), neutral - 1) + 1, step)])
        allowed = np.append(allowed, neutral)
        for rank in range(1, neutral + 3):
            every = np.full(len(sites.names), rank)
            clipped = int(sites.clip(every)[site])
            within = np.clip(rank, sites.lowest[site], min(int(sites.r_max[site]), neutral))
            assert abs(clipped - within) == abs(allowed - within).min(), (name, rank)


def test_the_optimum_is_that_of_enumeration_among_multiples() -> None:
    sites = dataclasses.replace(draw_sites(4), multiple_of=np.full(4, 2))
    spans = [
        np.unique([sites.clip(np.full(4, rank))[site] for rank in range(1, 60)])
        for site in range(4)
    ]
    every = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 4)
    fits = sites.fits(every, sites.ceilings(Budget(flops=0.5)))
    largest = ranks.network_accuracy(sites, every[fits]).max()
    assert ranks.bounded_optimum(sites, Budget(flops=0.5)).value == pytest.approx(largest)


def test_counted_costs_of_a_network_hold_the_budget() -> None:
    variables = draw(0, {"a": (48, 64), "b": (64, 64), "c": (64, 12), "d": (12, 4)})

    def apply(variables: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        for name in "abcd":
            x = x @ variables[name]
        return x

    graph = jc.trace(apply, variables, rows(3, 48))
    sites = ranks.sites_of(graph, variables, multiple_of=8)
    chosen = ranks.enc_map(sites, Budget(flops=0.7, params=0.7))
    assert {rank % 8 for rank in chosen.values() if rank is not None} == {0}
    # Nothing of 12 x 4 is a multiple of 8 below its neutral rank.
    assert chosen["d"] is None
    small = factorize(graph, chosen, sites.forms)
    counted = jc.trace(small.function(apply), small.variables(variables), rows(3, 48))
    assert counted.flops <= 0.7 * graph.flops and counted.params <= 0.7 * graph.params
    assert sites.cost("flops", sites.array(chosen)) == counted.flops
