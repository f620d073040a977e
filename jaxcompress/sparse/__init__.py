"""Sparsity: single weights at exactly zero, by masks that are trees like the variables.

    masks = jc.sparse.make_masks(variables, 0.75, pattern=jc.sparse.NofM(2, 4), graph=graph)
    compression = jc.sparsify(masks)

A score says what each weight is worth, a scope how many each leaf keeps at a sparsity, a pattern
(`Block`, `NofM`) which may go apart; a graph says which leaves are kernels and along which axes
they are contracted. `make_masks` chooses once, `activation_masks` and `reconstruct` by what kernels
are given; `sparse_optimizer` is an optax transformation that
chooses on a `schedule` and holds zeros at zero; `sparsify` carries out.
"""

from __future__ import annotations

from jaxcompress.sparse import schedule
from jaxcompress.sparse.activations import activation_masks
from jaxcompress.sparse.counts import Scope, kept_counts
from jaxcompress.sparse.making import make_masks
from jaxcompress.sparse.masks import masked, nonzero_masks
from jaxcompress.sparse.optimizer import SparseState, masks_of, sparse_optimizer
from jaxcompress.sparse.patterns import Block, NofM
from jaxcompress.sparse.reconstructing import reconstruct
from jaxcompress.sparse.regrow import Regrow, rigl, set_regrow
from jaxcompress.sparse.scores import (
    Evidence,
    Score,
    gradient_times_weight,
    magnitude,
    movement,
    random,
)
from jaxcompress.sparse.sparsifying import sparsify

__all__ = [
    "Block",
    "Evidence",
    "NofM",
    "Regrow",
    "Scope",
    "Score",
    "SparseState",
    "activation_masks",
    "gradient_times_weight",
    "kept_counts",
    "magnitude",
    "make_masks",
    "masked",
    "masks_of",
    "movement",
    "nonzero_masks",
    "random",
    "reconstruct",
    "rigl",
    "schedule",
    "set_regrow",
    "sparse_optimizer",
    "sparsify",
]
