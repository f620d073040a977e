"""What to remove: budgets, comparable scores, and the selection under a budget.

A `Budget` bounds the cost; `per_group` and `per_cost` make scores comparable; `select` turns them
into a keep on the host, `threshold` into gates inside jit. `learn` improves scores by gradients at
hard masks, `iterative` scores again as channels go, `local_search` compares candidates.
"""

from __future__ import annotations

from jaxcompress import (sparse as masks)
from jaxcompress.low_rank import (ranks)
from jaxcompress.sparse import (schedule)
from jaxcompress.graph.budget import (Budget)
from jaxcompress.prune.candidates.losses import (candidate_losses)
from jaxcompress.prune.candidates.chunks import (chunk_size)
from jaxcompress.prune.learned.optimizer import (gate_optimizer, scale_by_shared_rms)
from jaxcompress.prune.learned.scores import (Learned)
from jaxcompress.prune.internal import (internal_groups)
from jaxcompress.prune.iteration import (iterative, iterative_scores)
from jaxcompress.prune.learned.learner import (Learn, LearnState, learn)
from jaxcompress.prune.learned.loop import (learn_gates)
from jaxcompress.prune.candidates.local import (Found, local_search)
from jaxcompress.prune.comparable import (channel_costs, per_cost, per_group)
from jaxcompress.prune.selecting import (select, threshold)
from jaxcompress.prune.learned.hard_masks import (straight_through)

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
