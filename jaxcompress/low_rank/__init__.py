"""Low rank: kernels as two factors, with ranks chosen for the whole network.

    sites = jc.ranks.sites_of(graph, variables)
    compression = jc.factorize(graph, jc.ranks.enc_map(sites, jc.Budget(flops=0.5)), sites.forms)

`ranks` chooses, `factorize` carries out, `truncations` tries ranks without changing a shape.
`statistics` tells what each site is given and which of its errors matter, `refine` makes factors
that know it, `compensate` makes up for what the network before them has lost.
"""

from __future__ import annotations

from jaxcompress.low_rank import ranks, statistics
from jaxcompress.low_rank.compensating import compensate
from jaxcompress.low_rank.factorizing import factorize
from jaxcompress.low_rank.refining import refine
from jaxcompress.low_rank.statistics import (
    covariance_root,
    covariances_of,
    input_covariances,
    input_moments,
    input_roots,
    output_covariances,
    output_roots,
    output_sensitivities,
)
from jaxcompress.low_rank.truncating import multiplied_out, truncations

__all__ = [
    "compensate",
    "covariance_root",
    "covariances_of",
    "factorize",
    "input_covariances",
    "input_moments",
    "input_roots",
    "multiplied_out",
    "output_covariances",
    "output_roots",
    "output_sensitivities",
    "ranks",
    "refine",
    "statistics",
    "truncations",
]
