"""Costs, EVBMF, metrics and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from jaxcompress.annotations import Function
from jaxcompress.graph import Budget
from jaxcompress.low_rank import ranks
from jaxcompress.low_rank.ranks import (
    Sites,
    channel_cost,
    dense_cost,
    energy_metric,
    measured_metric,
    network_accuracy,
    sites_from_costs,
    spatial_cost,
)
from jaxcompress.low_rank.ranks.evbmf import evbmf_rank
from jaxcompress.low_rank.ranks.metrics import energy_curve
from jaxcompress.low_rank.ranks.spectrum import singular_values


def make_sites(sides: tuple[int, ...] = (16, 24)) -> Sites:
    # A third of the values stands out, so that EVBMF and with it the knots lie in between.
    spectra = [np.where(np.arange(s) < s // 3, 50.0, 0.1) / np.arange(1, s + 1) for s in sides]
    costs = [dense_cost(side, side) for side in sides]
    names = [f"site{i}" for i in range(len(sides))]
    return sites_from_costs(names, costs, spectra, [(s, s) for s in sides])


def test_costs_count_both_factors() -> None:
    cost = spatial_cost(8, 12, (3, 5), positions=50, middle_positions=100)
    assert cost.slope == {"flops": 2.0 * (24 * 100 + 60 * 50), "params": 84.0}
    assert cost.dense == {"flops": 2.0 * 8 * 12 * 15 * 50, "params": 1440.0}
    assert cost.r_max == round(1440 / 84)
    grouped = channel_cost(8, 12, (3, 3), positions=4, groups=4)
    assert grouped.slope["params"] == 8 * 9 + 12
    assert grouped.dense["params"] == 8 // 4 * 9 * 12


def test_a_site_that_would_grow_is_left_alone() -> None:
    # With the exact stride split the factors reach the whole's FLOPs before r_max.
    cost = spatial_cost(16, 32, (3, 3), positions=64, middle_positions=128)
    sites = sites_from_costs(["strided"], [cost], [np.geomspace(1, 0.1, 48)], [(48, 96)])
    neutral = int(sites.neutral[0])
    assert neutral < cost.r_max
    assert cost.slope["flops"] * (neutral - 1) < cost.dense["flops"]
    assert cost.slope["flops"] * neutral >= cost.dense["flops"]
    assert sites.cost("flops", np.array([neutral])) == cost.dense["flops"]
    assert sites.named(np.array([neutral])) == {"strided": None}
    assert sites.clip(np.array([cost.r_max])) == neutral


@pytest.mark.parametrize(("rows", "columns"), [(60, 60), (40, 90), (90, 40)])
@pytest.mark.parametrize("rank", [0, 1, 8])
def test_evbmf_finds_the_rank_under_noise(rows: int, columns: int, rank: int) -> None:
    random = np.random.default_rng(rank)
    signal = random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns))
    for noise in (0.01, 1.0):
        matrix = signal + noise * random.normal(size=(rows, columns))
        assert evbmf_rank(np.linalg.svd(matrix, compute_uv=False), rows, columns) == rank


def test_evbmf_ignores_scale_and_needs_all_values() -> None:
    values = np.append([9.0, 5.0], np.linspace(0.5, 0.1, 18))
    assert evbmf_rank(values, 20, 30) == evbmf_rank(1e-3 * values, 30, 20) == 2
    assert evbmf_rank(np.zeros(4), 4, 4) == 0
    with pytest.raises(ValueError, match="20 singular values, got 5"):
        evbmf_rank(values[:5], 20, 30)


def test_singular_values_agree_with_lapack() -> None:
    random = np.random.default_rng(0)
    for shape in [(12, 7), (3, 7, 12), (5, 5)]:
        matrices = random.normal(size=shape).astype(np.float32)
        expected = np.linalg.svd(matrices.astype(np.float64), compute_uv=False)
        np.testing.assert_allclose(singular_values(matrices), expected, rtol=1e-9)
    assert np.isnan(singular_values(np.array([[1.0, np.nan]]))).all()


def test_metrics_rise_from_zero_to_one() -> None:
    sites = make_sites()
    energy = energy_metric(sites)
    accuracies = [0.9 * np.sqrt(knots / knots[-1]) for knots in sites.knots]
    for metric in (energy, measured_metric(sites, accuracies, full=0.9)):
        for curve in metric.curves:
            assert curve[0] == 0 and curve[-1] == pytest.approx(1)
            assert (np.diff(curve) >= -1e-12).all()
        levels = [metric.ranks_at(level) for level in np.linspace(0, 1, 40)]
        assert (np.diff(levels, axis=0) >= 0).all()
        np.testing.assert_array_equal(levels[-1], sites.r_max)
    np.testing.assert_allclose(energy_curve(np.array([3.0, 3.0, 1.0, 1.0]), 3), [0, 0, 0.75, 1.0])


def test_measured_curves_pass_through_the_knots() -> None:
    sites = make_sites((40,))
    accuracy = np.linspace(0.3, 0.8, len(sites.knots[0]))
    curve = measured_metric(sites, [accuracy], full=0.8).curves[0]
    # Of equal knots the first counts.
    knots, first = np.unique(sites.knots[0], return_index=True)
    assert len(knots) > 4
    np.testing.assert_allclose(curve[knots], accuracy[first] / 0.8)


def test_a_dip_is_skipped_by_the_inverse() -> None:
    sites = make_sites((200,))
    knots = sites.knots[0]
    accuracy = np.linspace(0.4, 0.9, len(knots))
    accuracy[3] = 0.1
    metric = measured_metric(sites, [accuracy], full=0.9)
    assert metric.curves[0][knots[3]] == pytest.approx(0.1 / 0.9)
    levels = [metric.ranks_at(level)[0] for level in np.linspace(0, 1, 50)]
    assert (np.diff(levels) >= 0).all()


def test_network_metrics_combine() -> None:
    sites = make_sites()
    energy = energy_metric(sites)
    measured = measured_metric(sites, [k / k[-1] for k in sites.knots], full=1.0)
    both = np.array([[3, 6], [5, 9]])
    a_p = np.exp(network_accuracy(sites, both))
    a_m = np.exp(network_accuracy(sites, both, measured))
    share = sites.cost("flops", both) / sites.total["flops"]
    a_c = np.exp(network_accuracy(sites, both, (energy, measured)))
    np.testing.assert_allclose(a_c, a_p * share + a_m)
    products = [energy.curves[0][r[0]] * energy.curves[1][r[1]] for r in both]
    np.testing.assert_allclose(a_p, products)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: sites_from_costs(["a"], [dense_cost(2, 2)], [np.full(2, np.nan)], [(2, 2)]),
            "must be finite, but those of a are not",
        ),
        (
            lambda t: sites_from_costs(["a"], [dense_cost(9, 9)], [np.ones(3)], [(9, 9)]),
            "a: 3 < 4",
        ),
        (lambda t: t.fix({"nothing": 3}), r"\['nothing'\]; the sites are site0, site1"),
        (lambda t: t.ceilings(Budget(bytes=0.5)), "bounds \\['bytes'\\]"),
        (lambda t: measured_metric(t, [np.ones(2)] * 2, 1.0), "site0.*site1"),
        (lambda t: measured_metric(t, [1.5 + 0 * k for k in t.knots], 1.0), "1.5 to 1.5"),
        (
            lambda t: measured_metric(t, [k / k[-1] for k in t.knots], 0.0),
            "full must be .* above 0, but is 0.0",
        ),
        (lambda t: ranks.enc_model(t, Budget(flops=0.5), metric=()), "0 are given"),
    ],
)
def test_refusals(call: Function, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make_sites())
