"""Which weights to remove: scores, how many each leaf keeps, regrowth, and training under masks.

A score says what each weight is worth, a scope how many each leaf keeps at a sparsity, a pattern
(`jaxcompress.transforms.Block`, `NofM`) which may go apart. A graph says which leaves
are kernels and along which axes they are contracted. `make_masks` chooses once;
`sparse` is an optax transformation that chooses on a schedule and holds zeros at zero.
"""

from __future__ import annotations

from jaxcompress.search.masks.counts import Scope, kept_counts
from jaxcompress.search.masks.make import make_masks
from jaxcompress.search.masks.regrow import Regrow, rigl, set_regrow
from jaxcompress.search.masks.scores import (
    Evidence,
    Score,
    gradient_times_weight,
    magnitude,
    movement,
    random,
)
from jaxcompress.search.masks.sparse import SparseState, masks_of, sparse

__all__ = [
    "Evidence",
    "Regrow",
    "Scope",
    "Score",
    "SparseState",
    "gradient_times_weight",
    "kept_counts",
    "magnitude",
    "make_masks",
    "masks_of",
    "movement",
    "random",
    "rigl",
    "set_regrow",
    "sparse",
]
