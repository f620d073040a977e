"""What matters: scores per channel, higher = keep.

`magnitude` looks at weights alone, `taylor` at gradients of a loss with respect to gates, `fisher`
at their squares per example under random masks, `meta` at gradients of a query loss through inner
training steps (`adapt`); `random` is the baseline of every comparison.
"""

from __future__ import annotations

from jaxcompress.prune.importance.gate_gradients import taylor
from jaxcompress.prune.importance.inner_steps import adapt
from jaxcompress.prune.importance.masked_fisher import fisher, random_masks
from jaxcompress.prune.importance.meta_gradients import meta
from jaxcompress.prune.importance.norms import magnitude, random

__all__ = [
    "adapt",
    "fisher",
    "magnitude",
    "meta",
    "random",
    "random_masks",
    "taylor",
]
