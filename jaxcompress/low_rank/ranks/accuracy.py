"""How accurate a whole network is expected to be: products of its sites' metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.low_rank.ranks.metrics import Metric
from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["combine_logs", "log_accuracy", "log_curve", "network_accuracy"]

# A site at metric 0 makes every product 0; this floor keeps such configurations comparable.
SMALLEST = 1e-12


def log_accuracy(metric: Metric, table: SiteTable, ranks: np.ndarray) -> np.ndarray:
    """Return `float[...]`, the logarithm of the product of y_l(r_l), A_p or A_m.

    A site left alone (rank at or above neutral) counts as 1. Values below 1e-12 count as 1e-12.

    Args:
        metric: of the table's sites, in its order (see `Metric.of`).
        table: the sites.
        ranks: `int[..., sites]`.
    """
    ranks = np.asarray(ranks)
    logs = [log_curve(metric, table, site)[ranks[..., site]] for site in range(len(table.names))]
    return np.sum(logs, axis=0)


def log_curve(metric: Metric, table: SiteTable, site: int) -> np.ndarray:
    """Return log y of one site at every rank up to the larger of r_max and neutral."""
    r_max, neutral = int(metric.r_max[site]), int(table.neutral[site])
    curve = np.ones(max(r_max, neutral) + 1)
    stop = min(r_max + 1, neutral)
    curve[:stop] = metric.curves[site][:stop]
    return np.log(np.maximum(curve, SMALLEST))


def network_accuracy(
    table: SiteTable,
    ranks: np.ndarray,
    energy: Metric | None = None,
    measured: Metric | None = None,
    kind: str = "flops",
) -> np.ndarray:
    """Return `float[...]`, the logarithm of ENC's metric of a whole network.

    With energy alone `A_p = prod_l y_p,l(r_l)`, with measured alone `A_m` likewise, with both
    `A_c = A_p * C / C_whole + A_m`. ENC takes A_p for ResNet-56 and A_c for VGG-16.

    Args:
        table: the sites.
        ranks: `int[..., sites]`.
        energy: of `energy_metric`.
        measured: of `measured_metric`.
        kind: of the cost C in A_c.

    Raises:
        ValueError: if no metric is given.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost, energy_metric, site_table
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> spectrum = np.geomspace(1, 0.01, 8)
        >>> table = site_table(["a", "b"], [cost] * 2, [spectrum] * 2, [(8, 8)] * 2)
        >>> ranks = np.array([[2, 2], [2, 3], [4, 4]])
        >>> np.exp(network_accuracy(table, ranks, energy_metric(table))).round(2).tolist()
        [0.31, 0.48, 1.0]
    """
    share = table.cost(kind, np.asarray(ranks)) / table.total[kind]
    given = [metric.of(table) for metric in (energy, measured) if metric is not None]
    return combine_logs([log_accuracy(metric, table, ranks) for metric in given], share)


def combine_logs(logs: Sequence[np.ndarray] | np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return log A of one metric, or log(A_p * share + A_m) of energy and measured, in order."""
    if not len(logs):
        raise ValueError("a network is judged by a metric, but none is given; pass energy=")
    if len(logs) == 1:
        return logs[0]
    return np.logaddexp(logs[0] + np.log(share), logs[1])
