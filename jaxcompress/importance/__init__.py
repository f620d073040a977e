"""What matters: scores per channel, higher = keep.

`magnitude` looks at weights alone, `taylor` at gradients of a loss with respect to gates;
`uniform` is the random baseline.
"""

from __future__ import annotations

from jaxcompress.importance.magnitude import magnitude, uniform
from jaxcompress.importance.taylor import taylor

__all__ = ["magnitude", "taylor", "uniform"]
