"""Network compression as functional transforms for JAX.

Read any function's jaxpr to learn what may be removed (`trace`), score it (`importance`), decide
under a budget (`select`), and rewrite function and variables into smaller ones (`shrink`):

    graph = jc.trace(apply, variables, images)
    scores = jc.importance.magnitude(graph, variables)
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    prune = jc.shrink(graph, keep)
    small_apply, small_variables = prune.function(apply), prune.variables(variables)

`jc.recipes` has one function for each method, with the best measured default.

One folder a method: `jc.prune`, `jc.low_rank`, `jc.sparse`, `jc.quantization`, `jc.knowledge`, over
`jc.graph` and `jc.compression`. Everything is a pure function of pytrees, works under jit, grad,
vmap and on a mesh, and leaves the model's code alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxcompress.artifact import from_spec, load, save
from jaxcompress.compression import Compression, chain, fold
from jaxcompress.graph import Budget, Graph, Group, trace
from jaxcompress.low_rank import factorize, ranks
from jaxcompress.prune import gate, gated, importance, rotate, select, shrink, threshold
from jaxcompress.quantization import quantize
from jaxcompress.sparse import sparsify

if TYPE_CHECKING:
    from jaxcompress import (
        adapters,
        artifact,
        backend,
        compression,
        graph,
        knowledge,
        latency,
        low_rank,
        models,
        parallel,
        processes,
        prune,
        quantization,
        recipes,
        report,
        sparse,
        training,
    )

__all__ = [
    "Budget",
    "Compression",
    "Graph",
    "Group",
    "adapters",
    "artifact",
    "backend",
    "chain",
    "compression",
    "factorize",
    "fold",
    "from_spec",
    "gate",
    "gated",
    "graph",
    "importance",
    "knowledge",
    "latency",
    "load",
    "low_rank",
    "models",
    "parallel",
    "processes",
    "prune",
    "quantization",
    "quantize",
    "ranks",
    "recipes",
    "report",
    "rotate",
    "save",
    "select",
    "shrink",
    "sparse",
    "sparsify",
    "threshold",
    "trace",
    "training",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: networks, losses and plots are not everyone's."""
    if name in __all__:
        return importlib.import_module(f"jaxcompress.{name}")
    raise AttributeError(f"module 'jaxcompress' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
