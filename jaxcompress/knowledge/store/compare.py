"""Comparing records: how far apart they are, and refusing a teacher that says something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcompress.knowledge.store.arrays import Block
from jaxcompress.knowledge.store.read import Store
from jaxcompress.knowledge.store.storage import LOGITS
from jaxcompress.knowledge.store.work import Work, check_finite

__all__ = ["Gap", "check_alone", "check_known", "gaps", "offences"]

SAME_PROGRAM, OTHER_PROGRAM = 1e-4, 1e-2
"""Relative to the largest value: devices and batch sizes round differently, one program hardly."""


class Gap(NamedTuple):
    """How far two arrays are apart.

    Attributes:
        largest: the largest absolute difference.
        scale: the largest absolute value of the first.
        eps: the relative rounding of their dtype.
    """

    largest: float
    scale: float
    eps: float


def gaps(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> dict[str, Gap]:
    """Compare records of the same examples; of logits stored in part, class by class.

    A class that only `old` has is compared with the smallest that `new` has, so that ties do not
    count as differences.

    Example:
        >>> gaps({"logits": np.array([2.0, 4.0])}, {"logits": np.array([2.0, 5.0])})["logits"][:2]
        (1.0, 4.0)
    """
    values, indices = f"{LOGITS}/values", f"{LOGITS}/indices"
    again = {name: np.asarray(record).astype(np.float32) for name, record in new.items()}
    if indices in again:
        same = np.asarray(old[indices])[..., :, None] == np.asarray(new[indices])[..., None, :]
        matched = np.where(same, again[values][..., None, :], -np.inf).max(-1)
        again[values] = np.where(same.any(-1), matched, again[values].min(-1, keepdims=True))
        del again[indices]
    return {name: _gap(old[name], again[name]) for name in again}


def _gap(old: np.ndarray, new: np.ndarray) -> Gap:
    stored = np.asarray(old).astype(np.float32)
    eps = float(jnp.finfo(old.dtype).eps)
    return Gap(float(np.abs(stored - new).max()), float(np.abs(stored).max()), eps)


def offences(differences: Mapping[str, Gap], tolerance: float) -> list[str]:
    """Name the records that differ by more than a fraction of their largest value.

    Example:
        >>> offences({"logits": Gap(1.0, 4.0, 1e-3)}, 0.01)
        ['logits by 1 of 4']
    """
    return [
        f"{name} by {gap.largest:.4g} of {gap.scale:.4g}"
        for name, gap in differences.items()
        # Not `>`, which a NaN passes.
        if not gap.largest <= max(tolerance, 4 * gap.eps) * gap.scale
    ]


def check_alone(work: Work, block: Block) -> None:
    """Refuse a teacher whose answer to an example depends on the others or on its place.

    Raises:
        ValueError: naming the outputs.
        FloatingPointError: if one is not finite, naming the examples.
    """
    examples = np.arange(block.start, min(block.stop, block.start + work.size))
    few = examples[: (len(examples) + 1) // 2]
    together = work.records(examples, block.view)
    check_finite(together, block)
    # The same examples the other way round, and among others.
    apart = work.records(np.resize(few[::-1], len(examples)), block.view)
    differences = gaps(
        {name: array[: len(few)][::-1] for name, array in together.items()},
        {name: array[: len(few)] for name, array in apart.items()},
    )
    wrong = offences(differences, SAME_PROGRAM)
    if wrong:
        raise ValueError(
            "what a teacher says about an example does not depend on the others of its batch, but "
            f"among others these differ: {'; '.join(wrong)}; pass the teacher in evaluation mode, "
            "without dropout and with BatchNorm's stored statistics"
        )


def check_known(work: Work, store: Store, block: Block) -> None:
    """Refuse a teacher that says something else than what is stored of a block's first examples.

    Raises:
        ValueError: naming the records.
        OSError: if the files of the block are damaged.
    """
    examples = np.arange(block.start, min(block.stop, block.start + work.size))
    stored = store.read(examples, block.view)
    wrong = offences(gaps(stored, work.records(examples, block.view)), OTHER_PROGRAM)
    if wrong:
        raise ValueError(
            f"a store holds the knowledge of one teacher, but {store.folder} has other answers to "
            f"view {block.view} of examples {examples[0]} to {examples[-1]} than this teacher's, "
            f"with the same variables: {'; '.join(wrong)}; write to another folder, or pass the "
            "function that it was written with"
        )
