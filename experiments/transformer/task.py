"""What a transformer is compressed for: its functions, its data, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Batch, Function, Json, PyTree
from jaxcompress.recipes import Distance

__all__ = ["Task", "epoch", "inputs_of", "rows"]

CHUNK = 16
"""Batches whose sequences are sorted by length together; lengths are multiples of this."""

Sequences = Mapping[str, np.ndarray]


class Task(NamedTuple):
    """A network and what it is for.

    Attributes:
        network: name and configuration, as an artifact holds them; None if it has no name.
        apply: `apply(variables, {"tokens", "mask"}) -> answers`.
        variables: of the whole network.
        sequences: to learn from, `tokens` and `mask` `[sequences, length]`.
        distance: how answers are compared while a budget is met.
        lesson: how they are compared with stored ones while learning.
        top_k: of the answers how many are stored; None for all.
        labels: `labels(batch) -> int[batch, length]`; None where there are none.
        mask: `mask(batch)`, of answers with positions; None for answers of whole sequences.
        judge: `judge(apply, variables) -> float`, on data that nothing is chosen by.
        metric: what that is called.
        lower_is_better: of two scores.
        weights_dir: of published weights; None where it was trained here.
    """

    network: tuple[str, Mapping[str, Json]] | None
    apply: Function
    variables: PyTree
    sequences: Sequences
    distance: Distance
    lesson: Distance
    top_k: int | None
    labels: Callable[[Batch], jax.Array] | None
    mask: Callable[[Batch], Any] | None
    judge: Callable[[Function, PyTree], float]
    metric: str
    lower_is_better: bool
    weights_dir: Path | None = None


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Return what of a batch a network is given."""
    return {"tokens": batch["tokens"], "mask": batch["mask"]}


def rows(sequences: Sequences, chosen: Any, wholes: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return what is known of some sequences, cut behind the longest of them.

    Args:
        sequences: arrays `[sequences, length, ...]`, `mask` among them.
        chosen: their numbers.
        wholes: names of those that have no positions, `[sequences, ...]`.

    Example:
        >>> mask = np.arange(32) < np.array([[3], [20]])
        >>> rows({"tokens": 1 * mask, "mask": mask}, [0])["tokens"].shape
        (1, 16)
    """
    picked = {name: array[chosen] for name, array in sequences.items()}
    longest = int(picked["mask"].sum(1).max())
    length = -(-longest // CHUNK) * CHUNK
    return {name: x if name in wholes else x[:, :length] for name, x in picked.items()}


def epoch(sequences: Sequences, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the numbers of the sequences of each batch: random, but of similar lengths.

    Example:
        >>> sequences = {"mask": np.ones((5, 2))}
        >>> [len(batch) for batch in epoch(sequences, 2, np.random.default_rng(0))]
        [2, 2]
    """
    lengths = sequences["mask"].sum(1)
    order = random.permutation(len(lengths))
    for start in range(0, len(order), CHUNK * size):
        chunk = order[start : start + CHUNK * size]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches = [chunk[i : i + size] for i in range(0, len(chunk) - size + 1, size)]
        for number in random.permutation(len(batches)):
            yield batches[number]
