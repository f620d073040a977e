"""How accurate a whole network is expected to be: products of its sites' metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.low_rank.ranks.metrics import Metric, metric_or_energy
from jaxcompress.low_rank.ranks.sites import Sites

__all__ = ["combine_logs", "log_accuracy", "log_curve", "network_accuracy", "network_metrics"]

# A site at metric 0 makes every product 0; this floor keeps such configurations comparable.
SMALLEST = 1e-12


def log_accuracy(metric: Metric, sites: Sites, ranks: np.ndarray) -> np.ndarray:
    """Return `float[...]`, the logarithm of the product of y_l(r_l), A_p or A_m.

    A site left alone (rank at or above neutral) counts as 1. Values below 1e-12 count as 1e-12.

    Args:
        metric: of the sites, in their order (see `Metric.of`).
        sites: all of them.
        ranks: `int[..., sites]`.
    """
    ranks = np.asarray(ranks)
    logs = [log_curve(metric, sites, site)[ranks[..., site]] for site in range(len(sites.names))]
    return np.sum(logs, axis=0)


def log_curve(metric: Metric, sites: Sites, site: int) -> np.ndarray:
    """Return log y of one site at every rank up to the larger of r_max and neutral."""
    r_max, neutral = int(metric.r_max[site]), int(sites.neutral[site])
    curve = np.ones(max(r_max, neutral) + 1)
    stop = min(r_max + 1, neutral)
    curve[:stop] = metric.curves[site][:stop]
    return np.log(np.maximum(curve, SMALLEST))


def network_accuracy(
    sites: Sites,
    ranks: np.ndarray,
    metric: Metric | Sequence[Metric] | None = None,
    kind: str = "flops",
) -> np.ndarray:
    """Return `float[...]`, the logarithm of ENC's metric of a whole network.

    With energy alone `A_p = prod_l y_p,l(r_l)`, with measured alone `A_m` likewise, with both
    `A_c = A_p * C / C_whole + A_m`. ENC takes A_p for ResNet-56 and A_c for VGG-16.

    Args:
        sites: all of them.
        ranks: `int[..., sites]`, see `Sites.array`.
        metric: one, `energy_metric` by default, or the pair (energy, measured).
        kind: of the cost C in A_c.

    Raises:
        ValueError: if there are more than two metrics or none, or one does not know a site.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost, sites_from_costs
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> spectrum = np.geomspace(1, 0.01, 8)
        >>> sites = sites_from_costs(["a", "b"], [cost] * 2, [spectrum] * 2, [(8, 8)] * 2)
        >>> ranks = np.array([[2, 2], [2, 3], [4, 4]])
        >>> np.exp(network_accuracy(sites, ranks)).round(2).tolist()
        [0.31, 0.48, 1.0]
    """
    share = sites.cost(kind, np.asarray(ranks)) / sites.total[kind]
    logs = [log_accuracy(each, sites, ranks) for each in network_metrics(sites, metric)]
    return combine_logs(logs, share)


def network_metrics(sites: Sites, metric: Metric | Sequence[Metric] | None) -> list[Metric]:
    """Return the one metric of a network, or the pair, each of these sites in their order."""
    given = [metric] if metric is None or isinstance(metric, Metric) else list(metric)
    if len(given) not in (1, 2):
        raise ValueError(
            "a network is judged by one metric or by a pair (energy, measured), but "
            f"{len(given)} are given; pass one or two"
        )
    return [metric_or_energy(sites, each) for each in given]


def combine_logs(logs: Sequence[np.ndarray] | np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return log A of one metric, or log(A_p * share + A_m) of energy and measured, in order."""
    if len(logs) == 1:
        return logs[0]
    return np.logaddexp(logs[0] + np.log(share), logs[1])
