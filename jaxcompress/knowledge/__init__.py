"""Knowledge: what the teacher knew, and on which view of which example it said so.

`Views` and `Mix` say what a view may change, a `Source` which views of which examples there are;
`store` keeps what a teacher says about them; the losses compare a student's answers with it, for
sequences position by position, `masked_mean` over those that are no padding; the assistant stands
between the two.
"""

from __future__ import annotations

from jaxcompress.knowledge import store
from jaxcompress.knowledge.assistant import (
    AssistantLosses,
    assistant_logits,
    assistant_losses,
    blend,
    init_assistant,
)
from jaxcompress.knowledge.bank import bank_target, ensemble, interim_networks
from jaxcompress.knowledge.collapse import Spread, spread
from jaxcompress.knowledge.crossed import CrossedTargets, alternate_views, crossed_targets
from jaxcompress.knowledge.divergences import jensen_shannon, reverse_kl
from jaxcompress.knowledge.drawing import Views, view, views
from jaxcompress.knowledge.feature_losses import attention_transfer, fitnets, pkt, similarity
from jaxcompress.knowledge.fingerprints import fingerprint
from jaxcompress.knowledge.hidden_states import hidden_states, init_projection
from jaxcompress.knowledge.losses import cross_entropy, dist, dkd, kd, kd_top_k
from jaxcompress.knowledge.masking import length_mask, masked_mean, without_padding
from jaxcompress.knowledge.mixing import Mix, Mixed, mixed_views, partners
from jaxcompress.knowledge.restyling import Style, restyle, style
from jaxcompress.knowledge.sequences import next_tokens, pad_sequences
from jaxcompress.knowledge.source import Source

__all__ = [
    "AssistantLosses",
    "CrossedTargets",
    "Mix",
    "Mixed",
    "Source",
    "Spread",
    "Style",
    "Views",
    "alternate_views",
    "assistant_logits",
    "assistant_losses",
    "attention_transfer",
    "bank_target",
    "blend",
    "cross_entropy",
    "crossed_targets",
    "dist",
    "dkd",
    "ensemble",
    "fingerprint",
    "fitnets",
    "hidden_states",
    "init_assistant",
    "init_projection",
    "interim_networks",
    "jensen_shannon",
    "kd",
    "kd_top_k",
    "length_mask",
    "masked_mean",
    "mixed_views",
    "next_tokens",
    "pad_sequences",
    "partners",
    "pkt",
    "restyle",
    "reverse_kl",
    "similarity",
    "spread",
    "store",
    "style",
    "view",
    "views",
    "without_padding",
]
