"""Examples from a function of one's own that yields batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from experiments.compress.nearest import nearest
from experiments.compress.references import call, failure, function_of
from experiments.compress.splits import Splits
from jaxcompress.annotations import Batch

__all__ = ["MOST", "generated"]

MOST = 50_000
"""Examples that are read at most: batches may go on for ever."""


def generated(reference: str) -> Splits:
    """Call the function and put the examples of its batches together.

    Raises:
        ValueError: if there is no such function, it fails, or yields something else than arrays, or
            dicts with `image` and, if there are, `label`.
    """
    batches = call(function_of(reference, "data"), reference, "data")
    if isinstance(batches, Mapping | str) or hasattr(batches, "shape"):
        batches = [batches]  # one batch is an iterable of one
    if not isinstance(batches, Iterable):
        raise ValueError(
            f"data: {reference} returns an iterable of batches, but returned "
            f"{type(batches).__name__}; yield arrays, or dicts with image and label"
        )
    parts: list[dict[str, np.ndarray]] = []
    total = 0
    for batch in _running(batches, reference):
        parts.append(_arrays(batch, reference, len(parts)))
        total += len(parts[-1]["image"])
        if total >= MOST:
            break
    _check_alike(parts, reference)
    whole = {name: np.concatenate([part[name] for part in parts])[:MOST] for name in parts[0]}
    notes = (f"reading stopped at {MOST:,} examples",) if total >= MOST else ()
    return Splits(whole, None, notes)


def _running(batches: Iterable[Batch], reference: str) -> Iterator[Any]:
    """Yield the batches, naming what fails in them."""
    try:
        yield from batches
    except Exception as error:
        raise failure(error, f"data: {reference} yields batches") from error


def _arrays(batch: Batch, reference: str, number: int) -> dict[str, np.ndarray]:
    """Return a batch's arrays as `image` and `label`."""
    if not isinstance(batch, Mapping):
        batch = {"image": batch}
    unknown = [name for name in batch if name not in ("image", "label")]
    if unknown or "image" not in batch:
        remedy = nearest(str(unknown[0]), ("image", "label")) if unknown else "add it"
        raise ValueError(
            f"data: a batch has image and, if there are labels, label, but number {number} of "
            f"{reference} has {list(batch)}; {remedy}"
        )
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    if any(array.ndim == 0 or array.dtype == object for array in arrays.values()):
        raise ValueError(
            f"data: a batch holds arrays [examples, ...] of numbers, but number {number} of "
            f"{reference} holds {[(a.dtype.name, list(a.shape)) for a in arrays.values()]}"
        )
    return arrays


def _check_alike(parts: list[dict[str, np.ndarray]], reference: str) -> None:
    kinds = [
        {name: (array.dtype.name, array.shape[1:]) for name, array in part.items()}
        for part in parts
    ]
    if not parts:
        raise ValueError(f"data: {reference} yields batches, but yielded none; yield one at least")
    other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        raise ValueError(
            f"data: all batches of {reference} hold the same arrays, but number {other} holds "
            f"{kinds[other]} and the first {kinds[0]}; bring them to one"
        )
