"""Verifying a store: run the teacher again on a few records and compare."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.source import Source
from jaxcompress.knowledge.store.compare import gaps, offences
from jaxcompress.knowledge.store.planning import Teacher, recorder
from jaxcompress.knowledge.store.read import Store
from jaxcompress.knowledge.store.storage import Storage

__all__ = ["Verification", "verify"]


class Verification(NamedTuple):
    """What a verification found.

    Attributes:
        largest: `{record name: float}`, the largest difference between stored and recomputed.
        scale: `{record name: float}`, the largest absolute value stored among those records.
        records: how many (example, view) were recomputed.
    """

    largest: dict[str, float]
    scale: dict[str, float]
    records: int


def verify(
    store: Store,
    teacher: Teacher,
    variables: PyTree,
    source: Source,
    *,
    count: int = 64,
    seed: int = 0,
    tolerance: float = 0.01,
) -> Verification:
    """Recompute randomly chosen records and report the largest difference.

    Of logits stored in part, those of the same classes are compared, so that ties do not count as
    differences. Differences within the rounding of the store's dtype, and
    that of another batch size, are to be expected.

    Args:
        store: opened.
        teacher: as it was passed to `write`.
        variables: of the teacher.
        source: the examples and their views.
        count: how many records, in one batch.
        seed: of the choice.
        tolerance: the largest difference, as a fraction of the record's largest value; at least
            four roundings of the store's dtype.

    Raises:
        ValueError: if a record differs by more; each is named.

    Example:
        >>> import tempfile
        >>> from jaxcompress.knowledge.store.read import open_store
        >>> from jaxcompress.knowledge.store.writing import write
        >>> teacher = lambda variables, images: {"logits": images.reshape(len(images), -1) * 1.0}
        >>> images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
        >>> source = Source(images, 6, "tiny", jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> _ = write(folder, teacher, {}, source, batch_size=8)
        >>> verify(open_store(folder), teacher, {}, source, count=3).largest
        {'logits': 0.0}
    """
    require(
        count=integer(count),
        seed=integer(seed, least=0),
        tolerance=None if tolerance == math.inf else real(tolerance, least=0),
    )
    generator = np.random.default_rng(seed)
    examples = generator.integers(0, source.examples, count)
    views = generator.integers(0, source.views, count)
    stored = store.read(examples, views)
    storage = Storage(**store.manifest.storage)

    record = jax.jit(recorder(teacher, source, storage))
    differences = gaps(stored, record(variables, source.key, source.inputs(examples, views)))
    wrong = offences(differences, tolerance)
    if wrong:
        raise ValueError(
            f"stored knowledge is what the teacher says, but of {count} records of {store.folder} "
            f"these differ: {'; '.join(wrong)}; pass the teacher it was written with, or write a "
            "new store in another folder"
        )
    return Verification(
        {name: gap.largest for name, gap in differences.items()},
        {name: gap.scale for name, gap in differences.items()},
        count,
    )
