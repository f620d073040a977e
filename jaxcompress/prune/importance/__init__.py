"""What matters: scores per channel, higher = keep.

`magnitude` looks at weights alone, `taylor` at gradients of a loss with respect to gates, `fisher`
at their squares per example under random masks, `meta` at gradients of a query loss through inner
training steps (`adapt`); `random` is the baseline of every comparison. Without labels or a loss,
`activation_norms` looks at what consumers are given, `norm_scales` at the scales of normalisation,
and `block_influence` at how far layers and branches turn a stream.
"""

from __future__ import annotations

from jaxcompress.prune.importance.activations import activation_norms
from jaxcompress.prune.importance.gate_gradients import taylor
from jaxcompress.prune.importance.influence import block_influence, without_least
from jaxcompress.prune.importance.inner_steps import adapt
from jaxcompress.prune.importance.masked_fisher import fisher, random_masks
from jaxcompress.prune.importance.meta_gradients import meta
from jaxcompress.prune.importance.norm_scales import norm_scales
from jaxcompress.prune.importance.norms import magnitude, random

__all__ = [
    "activation_norms",
    "adapt",
    "block_influence",
    "fisher",
    "magnitude",
    "meta",
    "norm_scales",
    "random",
    "random_masks",
    "taylor",
    "without_least",
]
