"""Ranks of all sites together, under a budget.

    ranks = jc.ranks.enc_map(graph, variables, jc.Budget(flops=0.5))
    lowrank = jc.factorize(graph, ranks)

The searches take a graph and its variables; the functions on arrays behind them, from costs,
spectra and metric values to ranks, are in `jaxcompress.low_rank.ranks.arrays`.
"""

from __future__ import annotations

from jaxcompress.low_rank.ranks.measured import measure
from jaxcompress.low_rank.ranks.metrics import Metric, energy_metric
from jaxcompress.low_rank.ranks.network import convolution_sites, enc_ratio, network_table, spectra
from jaxcompress.low_rank.ranks.searches import (
    enc_inf,
    enc_map,
    enc_model,
    energy_threshold,
    evbmf_scaled,
    optimum,
    uniform,
)
from jaxcompress.low_rank.ranks.sensitivities import error_metric, sensitivity
from jaxcompress.low_rank.ranks.table import SiteTable
from jaxcompress.low_rank.ranks.without_loss import Lossless, Trial, lossless

__all__ = [
    "Lossless",
    "Metric",
    "SiteTable",
    "Trial",
    "convolution_sites",
    "enc_inf",
    "enc_map",
    "enc_model",
    "enc_ratio",
    "energy_metric",
    "energy_threshold",
    "error_metric",
    "evbmf_scaled",
    "lossless",
    "measure",
    "network_table",
    "optimum",
    "sensitivity",
    "spectra",
    "uniform",
]
