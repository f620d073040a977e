"""What makes the same program run faster on one kind of device.

`fast_convolutions` rewrites any function, gradients included, to call oneDNN on CPUs; `compiled` is
`jax.jit` with it, wherever that may be.
"""

from __future__ import annotations

from jaxcompress.backend.compiling import compiled, fast_if_large, is_alone
from jaxcompress.backend.convolutions import fast_convolutions

__all__ = ["compiled", "fast_convolutions", "fast_if_large", "is_alone"]
