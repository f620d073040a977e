"""Pure rewrites: gates that multiply channels, compressions that remove them.

`gated` and `gate` try a removal without changing a shape; `shrink` carries one out; `chain`
composes compressions; `from_spec` makes any of them again from its JSON-able description.
"""

from __future__ import annotations

from jaxcompress.transforms.compression import Compression, chain
from jaxcompress.transforms.covariance import input_roots
from jaxcompress.transforms.factorize import factorize, site_matrices, truncations
from jaxcompress.transforms.gate import gate, gated, ones
from jaxcompress.transforms.masks import masked, nonzero_masks
from jaxcompress.transforms.patterns import Block, NofM
from jaxcompress.transforms.shrink import shrink
from jaxcompress.transforms.sparsify import sparsify
from jaxcompress.transforms.spec import from_spec

__all__ = [
    "Block",
    "Compression",
    "NofM",
    "chain",
    "factorize",
    "from_spec",
    "gate",
    "gated",
    "input_roots",
    "masked",
    "nonzero_masks",
    "ones",
    "shrink",
    "site_matrices",
    "sparsify",
    "truncations",
]
