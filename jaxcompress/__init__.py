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

from jaxcompress import importance, search
from jaxcompress.artifact import load, save
from jaxcompress.graph import Graph, Group, trace
from jaxcompress.search import Budget, masks, ranks, schedule, select, threshold
from jaxcompress.transforms import (
    Compression,
    chain,
    factorize,
    from_spec,
    gate,
    gated,
    shrink,
    sparsify,
)

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
