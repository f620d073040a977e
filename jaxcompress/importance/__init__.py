"""What matters: scores per channel, higher = keep.

`magnitude` looks at weights alone, `taylor` at gradients of a loss with respect to gates, `fisher`
at their squares per example under random masks, `meta` at gradients of a query loss through inner
training steps (`adapt`); `uniform` is the random baseline.
"""

from __future__ import annotations

from jaxcompress.importance.fisher import fisher, random_masks, streams
from jaxcompress.importance.inner import adapt
from jaxcompress.importance.magnitude import magnitude, uniform
from jaxcompress.importance.meta import meta
from jaxcompress.importance.taylor import taylor

__all__ = [
    "adapt",
    "fisher",
    "magnitude",
    "meta",
    "random_masks",
    "streams",
    "taylor",
    "uniform",
]
