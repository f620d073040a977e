"""Learned gates: a few steps of gradient descent on what decides which channels are kept.

`learn` is the pure step and its start, `learn_gates` the loop over given batches,
`straight_through` the hard mask at the exact budget that both look through.
"""

from __future__ import annotations

from jaxcompress.prune.learned.hard_masks import straight_through
from jaxcompress.prune.learned.learner import Learn, LearnState, learn
from jaxcompress.prune.learned.loop import learn_gates
from jaxcompress.prune.learned.optimizer import gate_optimizer, scale_by_shared_rms
from jaxcompress.prune.learned.scores import Learned

__all__ = [
    "Learn",
    "LearnState",
    "Learned",
    "gate_optimizer",
    "learn",
    "learn_gates",
    "scale_by_shared_rms",
    "straight_through",
]
