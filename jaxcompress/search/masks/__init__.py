"""Which weights to remove: scores, how many each leaf keeps, regrowth, and training under masks.

A score says what each weight is worth, a scope how many each leaf keeps at a sparsity, a pattern
(`jaxcompress.sparse.Block`, `NofM`) which may go apart. A graph says which leaves
are kernels and along which axes they are contracted. `make_masks` chooses once;
`sparse` is an optax transformation that chooses on a schedule and holds zeros at zero.
"""

from __future__ import annotations

from jaxcompress.sparse.counts import (Scope, kept_counts)
from jaxcompress.sparse.making import (make_masks)
from jaxcompress.sparse.regrow import (Regrow, rigl, set_regrow)
from jaxcompress.sparse.scores import (Evidence, Score, gradient_times_weight, magnitude, movement, random)
from jaxcompress.sparse.optimizer import (SparseState, masks_of, sparse)

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
