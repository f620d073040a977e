"""Ranks of all sites together, under a budget.

    sites = ranks.sites_of(graph, variables)  # costs, singular values, what may be chosen
    chosen = ranks.enc_map(sites, jc.Budget(flops=0.5))  # {site: rank, or None: left alone}
    lowrank = jc.factorize(graph, chosen, sites.forms)

Every search is `search(sites, budget, *, metric=..., ...) -> {site: rank or None}`: `enc_map`,
`enc_model`, `enc_inf`, `optimum`, and, to compare them with, `uniform`, `energy_threshold`,
`evbmf_scaled`. A `Metric` says how accurate each site is expected to be at each rank, from singular
values (`energy_metric`), by trying (`measure`), or by how far the outputs move (`sensitivity`).
What runs the network is given `evaluate(ranks) -> accuracy`; `truncations` makes variables of them:

    at = jc.low_rank.truncations(graph, variables, sites.forms)
    metric = ranks.measure(sites, lambda chosen: accuracy(at(chosen)))
    chosen = ranks.enc_map(sites, jc.Budget(flops=0.5), metric=metric)
"""

from __future__ import annotations

from jaxcompress.low_rank.ranks.accuracy import network_accuracy
from jaxcompress.low_rank.ranks.complexity import enc_ratio
from jaxcompress.low_rank.ranks.configurations import CandidateSpace, best_configurations
from jaxcompress.low_rank.ranks.defaults import convolution_sites, default_forms
from jaxcompress.low_rank.ranks.forms import FactorCost, channel_cost, dense_cost, spatial_cost
from jaxcompress.low_rank.ranks.from_costs import sites_from_costs
from jaxcompress.low_rank.ranks.measured import measure
from jaxcompress.low_rank.ranks.metrics import (
    Metric,
    curve_metric,
    energy_metric,
    measured_metric,
)
from jaxcompress.low_rank.ranks.network import sites_of, spectra
from jaxcompress.low_rank.ranks.searches.enc_inf import enc_inf
from jaxcompress.low_rank.ranks.searches.enc_map import enc_map
from jaxcompress.low_rank.ranks.searches.enc_model import enc_model
from jaxcompress.low_rank.ranks.searches.energy_threshold import energy_threshold
from jaxcompress.low_rank.ranks.searches.evbmf_scaled import evbmf_scaled
from jaxcompress.low_rank.ranks.searches.optimum import Optimum, bounded_optimum, optimum
from jaxcompress.low_rank.ranks.searches.uniform import uniform
from jaxcompress.low_rank.ranks.sensitivities import error_metric, sensitivity
from jaxcompress.low_rank.ranks.sites import Evaluate, Ranks, Search, Sites
from jaxcompress.low_rank.ranks.without_loss import Lossless, Trial, lossless

__all__ = [
    "CandidateSpace",
    "Evaluate",
    "FactorCost",
    "Lossless",
    "Metric",
    "Optimum",
    "Ranks",
    "Search",
    "Sites",
    "Trial",
    "best_configurations",
    "bounded_optimum",
    "channel_cost",
    "convolution_sites",
    "curve_metric",
    "default_forms",
    "dense_cost",
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
    "measured_metric",
    "network_accuracy",
    "optimum",
    "sensitivity",
    "sites_from_costs",
    "sites_of",
    "spatial_cost",
    "spectra",
    "uniform",
]
