"""Pure rewrites: gates that multiply channels, compressions that remove them.

`gated` and `gate` try a removal without changing a shape; `shrink` carries one out; `factorize`
replaces kernels by two factors; `chain` composes compressions; `from_spec` makes any of them again
from its JSON-able description. `truncations` tries ranks without changing a shape; `input_roots`
and `refine` make factors that know the data; `output_covariances` tells which errors matter.
"""

from __future__ import annotations

from jaxcompress.transforms.carried import shrink_inputs
from jaxcompress.transforms.compensate import compensate
from jaxcompress.transforms.compression import Compression, chain
from jaxcompress.transforms.covariance import (
    covariance_root,
    covariances_of,
    input_covariances,
    input_moments,
    input_roots,
)
from jaxcompress.transforms.factorize import factorize
from jaxcompress.transforms.gate import gate, gated, ones
from jaxcompress.transforms.gradients import (
    output_covariances,
    output_roots,
    output_sensitivities,
)
from jaxcompress.transforms.masks import masked, nonzero_masks
from jaxcompress.transforms.patterns import Block, NofM
from jaxcompress.transforms.refine import refine
from jaxcompress.transforms.shrink import shrink
from jaxcompress.transforms.sparsify import sparsify
from jaxcompress.transforms.spec import from_spec
from jaxcompress.transforms.truncations import multiplied_out, truncations

__all__ = [
    "Block",
    "Compression",
    "NofM",
    "chain",
    "compensate",
    "covariance_root",
    "covariances_of",
    "factorize",
    "from_spec",
    "gate",
    "gated",
    "input_covariances",
    "input_moments",
    "input_roots",
    "masked",
    "multiplied_out",
    "nonzero_masks",
    "ones",
    "output_covariances",
    "output_roots",
    "output_sensitivities",
    "refine",
    "shrink",
    "shrink_inputs",
    "sparsify",
    "truncations",
]
