"""Batches as recipes take them: any iterable of batches, read once, drawn from as often as needed.

A recipe says how many batches of which size it wants; what it is given may be more, fewer, larger
or smaller. So examples are put together, and batches drawn from them by a key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "LIMIT",
    "Inputs",
    "Mask",
    "Seen",
    "cut",
    "draw",
    "gather",
    "inputs_of",
    "one_example",
    "opened",
]

LIMIT = 16_384
"""How many examples are read at most: a little more than learned gates take in all."""

Inputs: TypeAlias = Callable[[Any], Any]
"""`inputs(batch)`: what of a batch the network is given."""

Mask: TypeAlias = Callable[[Any], Array]
"""`mask(batch) -> [examples, length]`: nonzero where a position of a sequence is no padding."""


class Seen(NamedTuple):
    """A batch as statistics see it: what the network is given, and where that is no padding."""

    inputs: Any
    mask: Array | None

    @classmethod
    def of(cls, batch: Batch, inputs: Inputs, mask: Mask | None) -> Seen:
        """Take both out of a batch."""
        return cls(inputs(batch), None if mask is None else mask(batch))


def inputs_of(batch: Batch) -> PyTree:
    """Return a batch's `image`, if it is a mapping that has one, otherwise the batch itself.

    Example:
        >>> inputs_of({"image": 1, "label": 2}), inputs_of(3)
        (1, 3)
    """
    return batch["image"] if isinstance(batch, Mapping) and "image" in batch else batch


def opened(batches: Iterable[Batch]) -> tuple[Any, Iterator[Any]]:
    """Return the first batch, and an iterator over all of them, the first included.

    Raises:
        TypeError: if this is one batch instead of an iterable of batches.
        ValueError: if there is none, or the first has no examples.
    """
    if isinstance(batches, Mapping | str) or hasattr(batches, "shape"):
        raise TypeError(
            "batches is an iterable of batches, each with the examples along its first axis, but "
            f"this is one {type(batches).__name__}; pass [batch]"
        )
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise ValueError("a recipe needs data, but batches holds none; pass at least one") from None
    _count(first, 0)
    return first, itertools.chain([first], iterator)


def _count(batch: Batch, number: int) -> int:
    """Return how many examples a batch has."""
    shapes = {path: np.shape(leaf) for path, leaf in flatten_with_paths(batch)[0].items()}
    counts = {shape[:1] for shape in shapes.values()}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(
            "arrays of one batch have the same examples along their first axis, at least one, but "
            f"those of batch {number} have the shapes {shapes or 'of no array'}"
        )
    return int(counts.pop()[0])


def gather(batches: Iterable[Batch], limit: int = LIMIT) -> PyTree:
    """Put the examples of batches together, in host memory, until there are `limit`.

    Raises:
        ValueError: if a batch is empty, or of other arrays than the first.

    Example:
        >>> gather(iter([np.zeros((2, 3)), np.ones((1, 3))])).shape
        (3, 3)
    """
    gathered: list[Array] = []
    total = 0
    for number, batch in enumerate(batches):
        total += _count(batch, number)
        arrays = jax.tree.map(np.asarray, batch)
        if gathered and _described(arrays) != _described(gathered[0]):
            raise ValueError(
                "all batches hold the same arrays but for the number of examples; batch "
                f"{number} holds {_described(arrays)}, the first {_described(gathered[0])}"
            )
        gathered.append(arrays)
        if total >= limit:
            break
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:limit], *gathered)


def _described(batch: Batch) -> dict[str, Array]:
    leaves, _ = flatten_with_paths(batch)
    return {path: (leaf.shape[1:], str(leaf.dtype)) for path, leaf in leaves.items()}


def draw(examples: Batch, key: jax.Array, number: int, size: int) -> PyTree:
    """Draw batches `[number, size, ...]`, smaller where there are fewer examples, but two at least.

    No example comes twice before all came once: where there are too few they are gone through
    again, in another order.

    Example:
        >>> drawn = draw(np.arange(3), jax.random.key(0), 2, 3)
        >>> sorted(drawn[0].tolist()), sorted(drawn[1].tolist())
        ([0, 1, 2], [0, 1, 2])
    """
    total = len(jax.tree.leaves(examples)[0])
    # An axis of length one is no axis of examples: gates of each example could not lie along it.
    size = min(size, max(total, 2))
    passes = -(-number * size // total)
    keys = [jax.random.fold_in(key, i) for i in range(passes)]
    order = np.concatenate(
        [np.asarray(jax.random.permutation(pass_key, total)) for pass_key in keys]
    )
    chosen = order[: number * size].reshape(number, size)
    return jax.device_put(jax.tree.map(lambda leaf: leaf[chosen], examples))


def cut(examples: PyTree, size: int) -> list[PyTree]:
    """Cut examples into batches of one size, as many as there are whole ones.

    Example:
        >>> [len(batch) for batch in cut(np.arange(5), 2)]
        [2, 2]
    """
    total = len(jax.tree.leaves(examples)[0])
    size = min(size, total)
    parts = [slice(start, start + size) for start in range(0, total - size + 1, size)]
    return [
        jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf[part]), examples) for part in parts
    ]


def one_example(inputs: PyTree) -> PyTree:
    """Describe the first example of a network's inputs abstractly, as `trace` takes it."""
    every = jax.eval_shape(lambda arrays: arrays, inputs)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), every)
