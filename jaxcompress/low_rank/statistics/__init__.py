"""What the sites of a function are given, and which errors of theirs matter, from data.

`input_roots` come from the covariance of what each site's rows are multiplied with, `output_roots`
from the gradients at what it gives.
"""

from __future__ import annotations

from jaxcompress.low_rank.statistics.covariance import (
    covariance_root,
    covariances_of,
    input_covariances,
    input_moments,
    input_roots,
)
from jaxcompress.low_rank.statistics.gradients import (
    output_covariances,
    output_roots,
    output_sensitivities,
)

__all__ = [
    "covariance_root",
    "covariances_of",
    "input_covariances",
    "input_moments",
    "input_roots",
    "output_covariances",
    "output_roots",
    "output_sensitivities",
]
