"""The methods: each says what a network looks like at any share of the whole network's cost.

A maker `make(share) -> network` gives channels and factors a share of the whole network's cost that
may be left, and single weights a share of the kernels' that stays. All are made in one go, without
gradients of weights, and statistics of BatchNorm are those of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jaxcompress as jc
from experiments.combined.making import Making
from experiments.combined.settings import Kind
from experiments.common.choices import of_first
from experiments.common.network import Network
from jaxcompress import low_rank, sparse
from jaxcompress.processes import by_first
from jaxcompress.recipes import sites

__all__ = ["METHODS", "Maker"]

Maker = Callable[[float], Network]


def prune(making: Making, network: Network, kind: Kind) -> Maker:
    """Remove the channels that masked Fisher misses least; kernels make up for them."""
    graph, scores = making.traced(network), making.scores_of(network)
    squares = making.squares_of(network)

    def make(share: float) -> Network:
        keep = of_first(jc.select(graph, scores, _budget(making, kind, share)))
        compression = jc.shrink(graph, keep)
        whole = jc.prune.compensate(graph, network.variables, squares, compression)
        return network.after(compression, compression.variables(whole))

    return make


def factorize(making: Making, network: Network, kind: Kind) -> Maker:
    """Put two factors in the place of kernels, ranks and factors of least expected error."""
    known = making.known_of(network)
    table = sites.weighted_sites(known, network.variables)

    def make(share: float) -> Network:
        budget = _budget(making, kind, share)
        ranks = by_first("ranks", lambda: sites.chosen_ranks(table, budget))
        roots = known.roots, known.output_roots
        return network.compressed(low_rank.factorize(known.graph, ranks, known.forms, *roots))

    return make


def sparsify(making: Making, network: Network, kind: Kind) -> Maker:
    """Set the weights to zero that are smallest among all kernels'."""
    del kind
    graph = making.traced(network)

    def make(share: float) -> Network:
        masks = sparse.make_masks(network.variables, 1 - share, graph=graph)
        return network.compressed(sparse.sparsify(network.variables, masks, graph=graph))

    return make


def _budget(making: Making, kind: Kind, share: float) -> jc.Budget:
    """Return a share of the whole network's cost, in numbers; bytes are met by parameters."""
    counted: Mapping[str, Any] = {"flops" if kind == "flops" else "params": share}
    return jc.Budget(**counted).of(making.graph)


METHODS: Mapping[str, Callable[[Making, Network, Kind], Maker]] = MappingProxyType(
    {"prune": prune, "low_rank": factorize, "sparse": sparsify}
)
