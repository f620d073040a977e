"""Network compression as functional transforms for JAX.

Read any function's jaxpr to learn what may be removed (`trace`), score it (`importance`), decide
under a budget (`select`), and rewrite function and variables into smaller ones (`shrink`):

    graph = jc.trace(apply, variables, images)
    keep = jc.select(graph, jc.importance.magnitude(graph, variables), jc.Budget(flops=0.5))
    prune = jc.shrink(graph, keep)
    small_apply, small_variables = prune.function(apply), prune.variables(variables)

Everything is a pure function of pytrees, works under jit, grad, vmap and on a mesh, and leaves the
model's code alone.
"""

from __future__ import annotations

from jaxcompress import (search)
from jaxcompress.prune import (importance)
from jaxcompress.artifact import load, save
from jaxcompress.graph import Graph, Group, trace
from jaxcompress import (sparse as masks)
from jaxcompress.graph.budget import (Budget)
from jaxcompress.low_rank import (ranks)
from jaxcompress.prune.selecting import (select, threshold)
from jaxcompress.sparse import (schedule)
from jaxcompress.artifact.spec import (from_spec)
from jaxcompress.compression.record import (Compression, chain)
from jaxcompress.low_rank.factorizing import (factorize)
from jaxcompress.prune.gating import (gate, gated)
from jaxcompress.prune.shrinking import (shrink)
from jaxcompress.sparse.sparsifying import (sparsify)

__all__ = [
    "Budget",
    "Compression",
    "Graph",
    "Group",
    "chain",
    "factorize",
    "from_spec",
    "gate",
    "gated",
    "importance",
    "load",
    "masks",
    "ranks",
    "save",
    "schedule",
    "search",
    "select",
    "shrink",
    "sparsify",
    "threshold",
    "trace",
]

__version__ = "0.1.0"
