"""How accurate each site is expected to be at each rank.

Both metrics are 0 at rank 0 and 1 at r_max. Energy needs the singular values alone; the measured
one needs the accuracy of the network with one site truncated to each of its knots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from jaxcompress.arguments import real, require
from jaxcompress.low_rank.ranks.sites import Sites

__all__ = [
    "Metric",
    "curve_metric",
    "energy_curve",
    "energy_metric",
    "measured_metric",
    "metric_or_energy",
]


@dataclass(frozen=True, eq=False)
class Metric:
    """One accuracy metric y_l(r) of every site.

    Attributes:
        names: of the sites, `[sites]`.
        curves: y at every rank, `float[r_max + 1]` per site.
        inverses: per site PCHIP of r / r_max over y, through (0, 0) and the knots of rising y up to
            the first that reaches 1.
        r_max: `int[sites]`.
    """

    names: tuple[str, ...]
    curves: tuple[np.ndarray, ...]
    inverses: tuple[PchipInterpolator, ...]
    r_max: np.ndarray

    def ranks_at(self, level: float) -> np.ndarray:
        """Return `int[sites]`, the ranks at which every site has the value `level` in [0, 1]."""
        share = [float(inverse(min(level, inverse.x[-1]))) for inverse in self.inverses]
        return np.round(np.asarray(share) * self.r_max).astype(np.int64)

    def of(self, sites: Sites) -> Metric:
        """Return the metric of these sites alone, in their order.

        Raises:
            ValueError: if the metric lacks one of them, or has another r_max for it.
        """
        known = {name: site for site, name in enumerate(self.names)}
        rows = list(zip(sites.names, sites.r_max.tolist(), strict=True))
        wrong = [name for name, _ in rows if name not in known]
        wrong += [
            f"{name} (r_max {self.r_max[known[name]]}, here {r_max})"
            for name, r_max in rows
            if name in known and self.r_max[known[name]] != r_max
        ]
        if wrong:
            raise ValueError(
                "a metric must know every site at its r_max, but does not know "
                f"{', '.join(wrong)}; make it of the same graph and forms"
            )
        order = [known[name] for name in sites.names]
        curves = tuple(self.curves[i] for i in order)
        inverses = tuple(self.inverses[i] for i in order)
        return Metric(sites.names, curves, inverses, self.r_max[order])


def energy_curve(singular_values: np.ndarray, r_max: int) -> np.ndarray:
    """Return the share of energy at each rank, `float[r_max + 1]`, as ENC defines it.

    `y(r) = (E(r) - E(1)) / (E(r_max) - E(1))`, E(r) the sum of the r largest singular values, not
    squared (ENC, supplement, section 2); y(0) = y(1) = 0, and y(r_max) = 1 even for r_max = 1.

    Args:
        singular_values: falling, at least `[r_max]`.
        r_max: largest rank.

    Example:
        >>> energy_curve(np.array([4.0, 2.0, 1.0, 1.0]), r_max=4).tolist()
        [0.0, 0.0, 0.5, 0.75, 1.0]
    """
    energy = np.cumsum(np.asarray(singular_values, np.float64)[:r_max])
    span = energy[-1] - energy[0]
    shares = (energy - energy[0]) / span if span > 0 else np.ones(r_max)
    shares[-1] = 1.0
    return np.concatenate([[0.0], shares])


def energy_metric(sites: Sites) -> Metric:
    """Return ENC's PCA-energy metric of every site, its inverse through their knots.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> sites = sites_from_costs(["a"], [cost], [np.geomspace(1, 0.01, 8)], [(8, 8)])
        >>> energy_metric(sites).curves[0].round(2).tolist()
        [0.0, 0.0, 0.56, 0.85, 1.0]
    """
    pairs = zip(sites.spectra, sites.r_max, strict=True)
    return curve_metric(sites, [energy_curve(values, int(r_max)) for values, r_max in pairs])


def metric_or_energy(sites: Sites, metric: Metric | None) -> Metric:
    """Return the metric of these sites, in their order: that of the energy where none is given."""
    return (energy_metric(sites) if metric is None else metric).of(sites)


def curve_metric(sites: Sites, curves: Sequence[np.ndarray]) -> Metric:
    """Return the metric of any rising curves y in [0, 1], its inverse through the sites' knots.

    Args:
        sites: all of them.
        curves: y at every rank, `float[r_max + 1]` per site.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> sites = sites_from_costs(["a"], [cost], [np.geomspace(1, 0.01, 8)], [(8, 8)])
        >>> curve_metric(sites, [np.linspace(0, 1, 5)]).ranks_at(0.5).tolist()
        [2]
    """
    values = [curve[knots] for curve, knots in zip(curves, sites.knots, strict=True)]
    inverses = [_inverse(*row) for row in zip(sites.knots, values, sites.r_max, strict=True)]
    return Metric(sites.names, tuple(curves), tuple(inverses), sites.r_max)


def measured_metric(sites: Sites, accuracies: Sequence[np.ndarray], full: float) -> Metric:
    """Return ENC's measurement metric: accuracy with one site truncated over that of none.

    Between knots, and down to (0, 0), curves are PCHIP. Where the last knot is r_max its accuracy
    counts as `full`, so that y(r_max) = 1.

    Args:
        sites: whose `knots` were measured.
        accuracies: per site `float[knots]`, all other sites left alone, in [0, 1].
        full: accuracy of the network left alone.

    Raises:
        ValueError: if a site has another number of accuracies than knots, one that is not in
            [0, 1], or `full` is not positive.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> sites = sites_from_costs(["a"], [cost], [np.geomspace(1, 0.01, 8)], [(8, 8)])
        >>> accuracy = [np.interp(sites.knots[0], [0, 2, 4], [0, 0.6, 0.8])]
        >>> measured_metric(sites, accuracy, full=0.8).curves[0][[0, 2, 4]].round(2).tolist()
        [0.0, 0.75, 1.0]
    """
    require(full=real(full, above=0))
    _check_accuracies(sites, accuracies, full)
    values = [np.asarray(row, np.float64) / full for row in accuracies]
    for knots, row, r_max in zip(sites.knots, values, sites.r_max, strict=True):
        row[knots == r_max] = 1.0
    rows = list(zip(sites.knots, values, sites.r_max, strict=True))
    curves, inverses = ([find(*row) for row in rows] for find in (_curve, _inverse))
    return Metric(sites.names, tuple(curves), tuple(inverses), sites.r_max)


def _inverse(knots: np.ndarray, values: np.ndarray, r_max: int) -> PchipInterpolator:
    """Return r / r_max as PCHIP of y through (0, 0) and the rising knots up to the first y >= 1."""
    shares, levels = [0.0], [0.0]
    for rank, value in zip(knots, values, strict=True):
        if value > levels[-1]:
            shares.append(rank / r_max)
            levels.append(float(value))
        if value >= 1:
            break
    return PchipInterpolator(levels, shares)


def _curve(knots: np.ndarray, values: np.ndarray, r_max: int) -> np.ndarray:
    """Return y at every rank as PCHIP through (0, 0) and the knots, the first of equal ones."""
    ranks, first = np.unique(np.concatenate([[0], knots]), return_index=True)
    levels = np.concatenate([[0.0], values])[first]
    return PchipInterpolator(ranks, levels)(np.arange(r_max + 1))


def _check_accuracies(sites: Sites, accuracies: Sequence[np.ndarray], full: float) -> None:
    if not full > 0:
        raise ValueError(f"accuracies are divided by that of the whole network, but {full=}")
    wrong = []
    for name, knots, row in zip(sites.names, sites.knots, accuracies, strict=True):
        row = np.asarray(row)
        if row.shape != knots.shape:
            wrong.append(f"{name}: shape {row.shape} for {len(knots)} knots")
        elif not ((row >= 0) & (row <= 1)).all():
            wrong.append(f"{name}: {row.min()} to {row.max()}")
    if wrong:
        raise ValueError(
            "every knot needs one accuracy in [0, 1], but " + "; ".join(wrong) + "; measure again"
        )
