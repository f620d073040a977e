"""What makes the same program run faster on one kind of device.

`fast_convolutions` rewrites any function, gradients included, to call oneDNN on CPUs.
"""

from __future__ import annotations

from jaxcompress.backend.convolutions import fast_convolutions

__all__ = ["fast_convolutions"]
