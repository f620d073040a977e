"""Pure rewrites: gates that multiply channels, compressions that remove them.

`gated` and `gate` try a removal without changing a shape; `shrink` carries one out; `chain`
composes compressions; `from_spec` makes any of them again from its JSON-able description.
"""

from __future__ import annotations

from jaxcompress.transforms.compression import Compression, chain
from jaxcompress.transforms.factorize import factorize
from jaxcompress.transforms.gate import gate, gated, ones
from jaxcompress.transforms.shrink import shrink
from jaxcompress.transforms.spec import from_spec

__all__ = ["Compression", "chain", "factorize", "from_spec", "gate", "gated", "ones", "shrink"]
