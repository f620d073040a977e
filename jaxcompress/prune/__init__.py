"""Pruning: fewer channels, the same function of the rest.

    graph = jc.trace(apply, variables, images)
    scores = jc.importance.fisher(graph, loss, variables, batches, key=key)
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    compression = jc.shrink(graph, keep)

`importance` scores channels and `learn_gates` improves scores by gradients at hard masks;
they are `Scores`, which know what they are comparable by, and `per_group` and `per_cost` make them
comparable in other ways than by default. `select` turns them into a keep on the host, `threshold`
into gates inside jit. `gated` and `gate` try a removal without changing a shape,
`shrink` carries it out; `absorb` first puts what goes on average into the biases behind it,
`compensate` lets kernels read from what stays what they read from what goes, and `rotate` turns a
residual stream so that its last channels carry least. `iterative` scores again as channels go,
`local_search` compares candidates.
"""

from __future__ import annotations

from jaxcompress.prune import importance
from jaxcompress.prune.absorbing import Absorbed, absorb
from jaxcompress.prune.candidates import Found, candidate_losses, chunk_size, local_search
from jaxcompress.prune.carried import shrink_inputs
from jaxcompress.prune.comparable import (
    channel_costs,
    comparable_scores,
    per_cost,
    per_group,
)
from jaxcompress.prune.compensating import compensate, forms_that_lose
from jaxcompress.prune.gating import gated, ones
from jaxcompress.prune.iteration import iterative, iterative_scores
from jaxcompress.prune.kernel_gates import gate
from jaxcompress.prune.learned import (
    Learn,
    Learned,
    LearnState,
    gate_optimizer,
    learn,
    learn_gates,
    scale_by_shared_rms,
    straight_through,
)
from jaxcompress.prune.rotation import Rotated, rotate
from jaxcompress.prune.scores import Scores
from jaxcompress.prune.selecting import select, threshold
from jaxcompress.prune.shrinking import shrink
from jaxcompress.prune.steps import channel_steps

__all__ = [
    "Absorbed",
    "Found",
    "Learn",
    "LearnState",
    "Learned",
    "Rotated",
    "Scores",
    "absorb",
    "candidate_losses",
    "channel_costs",
    "channel_steps",
    "comparable_scores",
    "chunk_size",
    "compensate",
    "forms_that_lose",
    "gate",
    "gate_optimizer",
    "gated",
    "importance",
    "iterative",
    "iterative_scores",
    "learn",
    "learn_gates",
    "local_search",
    "ones",
    "per_cost",
    "per_group",
    "rotate",
    "scale_by_shared_rms",
    "select",
    "shrink",
    "shrink_inputs",
    "straight_through",
    "threshold",
]
