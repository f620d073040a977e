"""Recipes: for each method one function with the best measured default; every part replaceable.

    compression = jc.recipes.prune(apply, variables, batches, jc.Budget(flops=0.5), key=key)
    small, small_apply = compression.variables(variables), compression.function(apply)

`batches` is any iterable of batches; no labels are needed, no loop is written, no file touched.
"""

from __future__ import annotations

from jaxcompress.recipes.compensating import compensate
from jaxcompress.recipes.distances import Distance
from jaxcompress.recipes.examples import inputs_of
from jaxcompress.recipes.factorizing import LowRank, low_rank
from jaxcompress.recipes.importances import (
    Fisher,
    Importance,
    Learned,
    Magnitude,
    Meta,
    Random,
    Taylor,
)
from jaxcompress.recipes.problem import Problem
from jaxcompress.recipes.pruning import prune
from jaxcompress.recipes.quantizing import Quantized, quantize
from jaxcompress.recipes.renewing import SHARES, renew
from jaxcompress.recipes.sites import LowRankSettings
from jaxcompress.recipes.sparsity import Sparse, sparse
from jaxcompress.recipes.teaching import Lesson, distill

__all__ = [
    "Distance",
    "Fisher",
    "Importance",
    "Learned",
    "Lesson",
    "LowRank",
    "LowRankSettings",
    "Magnitude",
    "Meta",
    "Problem",
    "Quantized",
    "Random",
    "SHARES",
    "Sparse",
    "Taylor",
    "compensate",
    "distill",
    "inputs_of",
    "low_rank",
    "prune",
    "quantize",
    "renew",
    "sparse",
]
