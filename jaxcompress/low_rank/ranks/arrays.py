"""Ranks of all sites together, under a budget: the array-level functions.

A `SiteTable` holds costs and singular values of all sites; a `Metric` says how accurate each site
is expected to be at each rank; `enc_map`, `enc_model`, `enc_inf`, `optimum` and the baselines turn
them into ranks, `int[sites]`, and `SiteTable.named` into `{site: rank or None}` for `factorize`.
"""

from __future__ import annotations

from jaxcompress.low_rank.ranks.accuracy import network_accuracy
from jaxcompress.low_rank.ranks.baselines import energy_threshold, evbmf_scaled, uniform
from jaxcompress.low_rank.ranks.configurations import (
    Inference,
    best_configurations,
    enc_inf,
    enc_model,
)
from jaxcompress.low_rank.ranks.equal_metric import enc_map
from jaxcompress.low_rank.ranks.evbmf import evbmf_rank
from jaxcompress.low_rank.ranks.forms import FactorCost, channel_cost, dense_cost, spatial_cost
from jaxcompress.low_rank.ranks.metrics import (
    Metric,
    curve_metric,
    energy_curve,
    energy_metric,
    measured_metric,
)
from jaxcompress.low_rank.ranks.optimal import Optimum, optimum
from jaxcompress.low_rank.ranks.spectrum import singular_values
from jaxcompress.low_rank.ranks.table import SiteTable, rank_knots, site_table
from jaxcompress.low_rank.ranks.without_loss import Lossless, Trial, lossless

__all__ = [
    "FactorCost",
    "Inference",
    "Lossless",
    "Metric",
    "Optimum",
    "SiteTable",
    "Trial",
    "best_configurations",
    "channel_cost",
    "curve_metric",
    "dense_cost",
    "enc_inf",
    "enc_map",
    "enc_model",
    "energy_curve",
    "energy_metric",
    "energy_threshold",
    "evbmf_rank",
    "evbmf_scaled",
    "lossless",
    "measured_metric",
    "network_accuracy",
    "optimum",
    "rank_knots",
    "singular_values",
    "site_table",
    "spatial_cost",
    "uniform",
]
