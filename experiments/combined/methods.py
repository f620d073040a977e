"""The methods: each says of a network what a smaller one looks like, roughly or with care.

A maker `make(share, careful) -> network` gives channels and factors a share of the whole network's
cost that may be left, and single weights a share of the kernels' that stays. Roughly made networks
are of the same sizes, but factors are not refined, weights not reconstructed, and BatchNorm is not
re-estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jaxcompress as jc
from experiments.combined.making import BATCH, Making
from experiments.combined.settings import Kind
from experiments.common.network import Network
from jaxcompress import low_rank, recipes, sparse
from jaxcompress.annotations import PyTree
from jaxcompress.recipes import sites

__all__ = ["METHODS", "Maker"]

Maker = Callable[[float, bool], Network]
FITTING_BATCH = 32
"""Images at a time while factors are fitted again: the patches of all sites are held at once."""


def prune(making: Making, network: Network, kind: Kind) -> Maker:
    """Remove the channels that masked Fisher misses least."""
    graph, scores = making.traced(network), making.scores_of(network)

    def make(share: float, careful: bool) -> Network:
        keep = jc.select(graph, scores, _budget(making, kind, share))
        small = network.compressed(jc.shrink(graph, keep))
        return making.renewed(small) if careful else small

    return make


def factorize(making: Making, network: Network, kind: Kind) -> Maker:
    """Put two factors in the place of kernels, ranks of least expected error."""
    known = making.known_of(network)
    table = sites.weighted_sites(known, network.variables)

    def make(share: float, careful: bool) -> Network:
        ranks = sites.chosen_ranks(table, _budget(making, kind, share))
        if not careful:
            roots = known.roots, known.output_roots
            change = low_rank.factorize(known.graph, ranks, known.forms, *roots)
            return network.compressed(change)
        change, small = sites.factorized(known, network.variables, ranks)
        small = _compensated(making, network, known, change, small)
        return making.renewed(network.after(change, small))

    return make


def _compensated(
    making: Making, network: Network, known: sites.Known, change: jc.Compression, small: PyTree
) -> PyTree:
    """Fit the factors once more, to the inputs that the factorized network itself gives."""
    count = making.config.looks.fitting
    images = list(making.images(7, count, min(FITTING_BATCH, count)))
    whole = making.renewed(network, low_rank.multiplied_out(change, small)).variables
    both = network.variables, whole
    return sites.compensated(known, change, network.apply, both, small, images)


def sparsify(making: Making, network: Network, kind: Kind) -> Maker:
    """Set the weights to zero that kernels miss least, and move the others to make up for them."""
    del kind
    graph, count = making.traced(network), making.config.looks.covariances

    def make(share: float, careful: bool) -> Network:
        if not careful:
            masks = sparse.make_masks(network.variables, 1 - share, graph=graph)
            change = sparse.sparsify(network.variables, masks, graph=graph)
            return network.compressed(change)
        images = list(making.images(2, count, min(BATCH, count)))
        result = recipes.sparse(
            network.apply,
            network.variables,
            images,
            1 - share,
            examples=count,
            graph=graph,
        )
        return making.renewed(network.after(result.compression, result.variables))

    return make


def _budget(making: Making, kind: Kind, share: float) -> jc.Budget:
    """Return a share of the whole network's cost, in numbers; bytes are met by parameters."""
    counted: Mapping[str, Any] = {"flops" if kind == "flops" else "params": share}
    return jc.Budget(**counted).of(making.graph)


METHODS: Mapping[str, Callable[[Making, Network, Kind], Maker]] = MappingProxyType(
    {"prune": prune, "low_rank": factorize, "sparse": sparsify}
)
