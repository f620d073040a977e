"""ENC-Model and ENC-Inf: the best of many configurations, by metric or by measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.accuracy import network_accuracy
from jaxcompress.low_rank.ranks.candidates import candidates, fold_sites, rank_options, steps
from jaxcompress.low_rank.ranks.fitting import check_reachable, largest_fitting
from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["Inference", "best_configurations", "enc_inf", "enc_model"]


class Inference(NamedTuple):
    """What `enc_inf` found.

    Attributes:
        ranks: of the most accurate candidate, `int[sites]`.
        candidates: `int[candidates, sites]`, best metric first.
        accuracies: measured, `float[candidates]`.
    """

    ranks: np.ndarray
    candidates: np.ndarray
    accuracies: np.ndarray


def enc_model(
    table: SiteTable,
    budget: Budget,
    energy: Metric | None = None,
    measured: Metric | None = None,
    *,
    corridor: float = 0.10,
    tolerance: float = 0.005,
    density: float = 1.0,
) -> np.ndarray:
    """Return the ranks, `int[sites]`, of the best network metric in ENC's candidate space.

    The arguments are those of `best_configurations`. Steps of one rank (`density` 1) are the
    default; the paper's coarser ones, 0.4 for ResNet-56 and 0.096 for VGG-16, find less.

    Raises:
        ValueError: if no metric is given or the budget is below the smallest reachable cost.

    Source: ENC (Kim, Khan, Kyung, CVPR 2019), section 5 and supplement, section 4.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost = dense_cost(inputs=16, outputs=16)
        >>> steep, flat = np.geomspace(1, 1e-3, 16), np.geomspace(1, 0.5, 16)
        >>> table = site_table(["steep", "flat"], [cost] * 2, [steep, flat], [(16, 16)] * 2)
        >>> enc_model(table, Budget(flops=0.7), energy_metric(table)).tolist()
        [4, 7]
    """
    found = best_configurations(
        table,
        budget,
        energy,
        measured,
        count=1,
        corridor=corridor,
        tolerance=tolerance,
        density=density,
    )
    return found[0]


def enc_inf(
    table: SiteTable,
    budget: Budget,
    evaluate: Callable[[dict[str, int | None]], float],
    energy: Metric | None = None,
    measured: Metric | None = None,
    *,
    count: int = 20,
    corridor: float = 0.10,
    tolerance: float = 0.005,
    density: float = 0.4,
) -> Inference:
    """Evaluate the `count` best configurations of the metric and return the most accurate.

    Args:
        table: the sites.
        budget: fractions are of `table.total`.
        evaluate: accuracy of `{site: rank or None}`, on images taken from the training data.
        energy: of `energy_metric`.
        measured: of `measured_metric`.
        count: 20 for the paper's ResNet-56, 40 for its VGG-16.
        corridor: see `best_configurations`.
        tolerance: see `best_configurations`.
        density: see `best_configurations`; coarse steps make the candidates differ. The paper's
            ResNet-56 takes 0.4, its VGG-16 0.165.

    Raises:
        ValueError: if no metric is given or the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost, spectrum = dense_cost(inputs=16, outputs=16), np.geomspace(1, 0.5, 16)
        >>> table = site_table(["a", "b"], [cost] * 2, [spectrum] * 2, [(16, 16)] * 2)
        >>> prefer_a = lambda ranks: ranks["a"] / 10
        >>> enc_inf(table, Budget(flops=0.7), prefer_a, energy_metric(table)).ranks.tolist()
        [6, 4]
    """
    found = best_configurations(
        table,
        budget,
        energy,
        measured,
        count=count,
        corridor=corridor,
        tolerance=tolerance,
        density=density,
    )
    accuracies = np.asarray([float(evaluate(table.named(ranks))) for ranks in found])
    return Inference(found[int(np.argmax(accuracies))], found, accuracies)


def best_configurations(
    table: SiteTable,
    budget: Budget,
    energy: Metric | None = None,
    measured: Metric | None = None,
    *,
    count: int,
    corridor: float = 0.10,
    tolerance: float = 0.005,
    density: float = 0.4,
) -> np.ndarray:
    """Return the `count` best configurations by network metric, `int[candidates, sites]`.

    R_max and R_min are ENC-Map's ranks at the budget plus and minus `corridor` of the whole cost.
    Each site may take `R_max - {0, t, 2t, ...}` down to R_min; candidates lie within `tolerance`
    below the budget. One metric gives A_p or A_m, both give A_c (see `network_accuracy`).

    Differences from the paper: the band lies below the budget, not around it, and is widened where
    it holds no candidate; ENC-Map's own ranks are a candidate, too; the code's further sub-sampling
    of deep groupings is not done; where costs differ so much that enumeration would not end, the
    smallest groups are folded as well.

    Args:
        table: the sites.
        budget: fractions are of `table.total`; all ceilings are held, and the one that R_max
            exceeds most sets the band.
        energy: of `energy_metric`.
        measured: of `measured_metric`; where given, it also sets the corridor, as for VGG-16.
        count: how many to return at most.
        corridor: delta_s, of the whole cost.
        tolerance: delta_m, of the budget.
        density: mean of 1 / t, see `steps`.

    Raises:
        ValueError: if no metric is given or the budget is below the smallest reachable cost.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost, spectrum = dense_cost(inputs=16, outputs=16), np.geomspace(1, 0.5, 16)
        >>> table = site_table(["a", "b"], [cost] * 2, [spectrum] * 2, [(16, 16)] * 2)
        >>> best_configurations(table, Budget(flops=0.7), energy_metric(table), count=1).tolist()
        [[5, 5]]
    """
    metrics = [metric.of(table) for metric in (energy, measured) if metric is not None]
    if not metrics:
        raise ValueError("a network is judged by a metric, but none is given; pass energy=")
    ceilings, total = table.ceilings(budget), table.total
    check_reachable(table, ceilings)
    ends = [
        {k: limit + sign * corridor * total[k] for k, limit in ceilings.items()} for sign in (1, -1)
    ]
    # Where even the lowest ranks exceed the lower end of the corridor, they are what comes back.
    high, low = (largest_fitting(table, end, metrics[-1].ranks_at)[0] for end in ends)
    excess = {k: float(table.cost(k, high)) - limit for k, limit in ceilings.items()}
    kind = max(excess, key=lambda k: excess[k] / total[k])
    options = _options(table, low, high, excess, steps(table.r_max, density))
    share = min(1.0, ceilings[kind] / total[kind])
    folds = fold_sites(table, options, metrics, kind, share)
    found = candidates(table, folds, ceilings, kind, tolerance, count)
    # Coarse steps can miss what ENC-Map finds.
    same, _ = largest_fitting(table, ceilings, metrics[-1].ranks_at)
    found = np.unique(np.concatenate([found, same[None]]), axis=0)
    scores = network_accuracy(table, found, energy, measured, kind)
    return found[np.argsort(-scores, kind="stable")[:count]]


def _options(
    table: SiteTable,
    low: np.ndarray,
    high: np.ndarray,
    excess: Mapping[str, float],
    step: np.ndarray,
) -> list[np.ndarray]:
    """Return each site's ranks, no further below `high` than what meets all ceilings alone."""
    reach = np.max([max(e, 0.0) / table.slope[k] for k, e in excess.items()], axis=0)
    # One more, because leaving the whole kernel saves less than a full rank.
    rows = zip(low, high, step, reach + 1, strict=True)
    return [rank_options(int(a), int(b), int(t), float(x)) for a, b, t, x in rows]
