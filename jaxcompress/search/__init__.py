"""What to remove: budgets, comparable scores, and the selection under a budget.

A `Budget` bounds the cost; `per_group` and `per_cost` make scores comparable; `select` turns them
into a keep on the host, `threshold` into gates inside jit. `learn` improves scores by gradients at
hard masks, `iterative` scores again as channels go, `local_search` compares candidates.
"""

from __future__ import annotations

from jaxcompress.search import masks, ranks, schedule
from jaxcompress.search.budget import Budget
from jaxcompress.search.candidates import candidate_losses
from jaxcompress.search.chunks import chunk_size
from jaxcompress.search.gate_optimizer import gate_optimizer, scale_by_shared_rms
from jaxcompress.search.gate_scores import Learned
from jaxcompress.search.internal import internal_groups
from jaxcompress.search.iterative import iterative, iterative_scores
from jaxcompress.search.learn import Learn, LearnState, learn
from jaxcompress.search.learn_gates import learn_gates
from jaxcompress.search.local_search import Found, local_search
from jaxcompress.search.normalise import channel_costs, per_cost, per_group
from jaxcompress.search.select import select, threshold
from jaxcompress.search.straight import straight_through

__all__ = [
    "Budget",
    "Found",
    "Learn",
    "LearnState",
    "Learned",
    "candidate_losses",
    "channel_costs",
    "chunk_size",
    "gate_optimizer",
    "internal_groups",
    "iterative",
    "iterative_scores",
    "learn",
    "learn_gates",
    "local_search",
    "masks",
    "per_cost",
    "per_group",
    "ranks",
    "scale_by_shared_rms",
    "schedule",
    "select",
    "straight_through",
    "threshold",
]
