"""Verifying a store: run the teacher again on a few records and compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.knowledge.source import Source, draw
from jaxcompress.knowledge.store.plan import Teacher
from jaxcompress.knowledge.store.read import Store
from jaxcompress.knowledge.store.storage import LOGITS, Storage, encode

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
    variables: Any,
    source: Source,
    *,
    count: int = 64,
    seed: int = 0,
) -> Verification:
    """Recompute randomly chosen records and report the largest difference.

    Of logits stored in part, the recomputed logits of the stored classes are compared, so that
    ties do not count as differences. Differences within the rounding of the store's dtype, and
    that of another batch size, are to be expected.

    Args:
        store: opened.
        teacher: as it was passed to `write`.
        variables: of the teacher.
        source: the examples and their views.
        count: how many records, in one batch.
        seed: of the choice.

    Example:
        >>> import tempfile
        >>> from jaxcompress.knowledge.store.read import open_store
        >>> from jaxcompress.knowledge.store.write import write
        >>> teacher = lambda variables, images: {"logits": images.reshape(len(images), -1) * 1.0}
        >>> images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
        >>> source = Source(images, 6, "tiny", jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> _ = write(folder, teacher, {}, source, batch_size=8)
        >>> verify(open_store(folder), teacher, {}, source, count=3).largest
        {'logits': 0.0}
    """
    generator = np.random.default_rng(seed)
    examples = generator.integers(0, source.examples, count)
    views = generator.integers(0, source.views, count)
    stored = store.read(examples, views)
    storage = Storage(**store.manifest.storage)

    @jax.jit
    def compute(variables: Any, key: jax.Array, inputs: Any) -> tuple[Any, Any]:
        outputs = teacher(variables, draw(source, inputs, key))
        return dict(outputs), encode(outputs, storage)

    outputs, records = compute(variables, source.key, source.inputs(examples, views))
    again = _comparable(outputs, records, stored)
    pairs = {name: (_float(stored[name]), _float(new)) for name, new in again.items()}
    return Verification(
        {name: float(np.abs(old - new).max()) for name, (old, new) in pairs.items()},
        {name: float(np.abs(old).max()) for name, (old, _) in pairs.items()},
        count,
    )


def _comparable(
    outputs: Mapping[str, Any], records: Mapping[str, Any], stored: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return the recomputed records, logits taken at the stored classes."""
    again = dict(records)
    indices = again.pop(f"{LOGITS}/indices", None)
    if indices is not None:
        classes = stored[f"{LOGITS}/indices"].astype(np.int64)
        again[f"{LOGITS}/values"] = np.take_along_axis(np.asarray(outputs[LOGITS]), classes, -1)
    return again


def _float(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.float32)
