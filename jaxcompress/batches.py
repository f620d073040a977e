"""Batches as scores and statistics take them: an iterable of them, or one tree of stacked arrays.

An array, or a tree of arrays, `[batches, batch, ...]` holds them all, and may be traced. A list, a
generator and whatever else iterates gives one batch after the other, which need not fit into memory
together; a batch is itself an array or a tree of arrays `[batch, ...]`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxcompress.annotations import PyTree
from jaxcompress.compiled import entry
from jaxcompress.paths import flatten_with_paths

__all__ = ["are_stacked", "check_examples", "count_of", "one_by_one"]


def are_stacked(batches: PyTree) -> bool:
    """Tell one tree of arrays, which holds all batches, from an iterable of batches.

    Lists are iterables; tuples are trees, as in `(images, labels)`.

    Example:
        >>> images = np.ones((3, 8, 2))
        >>> are_stacked(images), are_stacked({"image": images}), are_stacked(list(images))
        (True, True, False)
    """
    if isinstance(batches, Iterable) and not hasattr(batches, "shape"):
        if not isinstance(batches, Mapping | tuple):
            return False  # JAX takes no iterators apart
    return all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(batches))


def count_of(batches: PyTree) -> int | None:
    """Return how many batches there are, None where only the end of the iterable tells.

    Example:
        >>> count_of(np.ones((3, 8, 2))), count_of([1, 2]), count_of(iter([1, 2]))
        (3, 2, None)
    """
    if are_stacked(batches):
        return len(jax.tree.leaves(batches)[0])
    return len(batches) if hasattr(batches, "__len__") else None


def one_by_one(name: str, batches: PyTree, leading: int = 1) -> tuple[Any, Iterator[Any]]:
    """Return the first batch, and an iterator over all of them, the first included.

    Args:
        name: of the argument, for the errors.
        batches: see above.
        leading: how many axes of a batch come before those of an example.

    Raises:
        ValueError: if there is none, or one is empty, or its arrays disagree on these axes.
        TypeError: if this is nothing that iterates.

    Example:
        >>> first, every = one_by_one("batches", iter([np.ones((4, 2)), np.ones((3, 2))]))
        >>> first.shape, [batch.shape for batch in every]
        ((4, 2), [(4, 2), (3, 2)])
    """
    if are_stacked(batches):
        check_examples({name: batches}, leading + 1)
        entries = (entry(batches, i) for i in range(count_of(batches) or 0))
        return entry(batches, 0), entries
    try:
        iterator = iter(batches)
    except TypeError as error:
        raise TypeError(
            f"{name} is a tree of arrays [batches, batch, ...], or iterates over batches, but is a "
            f"{type(batches).__name__}; pass a list of batches"
        ) from error
    every = _checked(name, iterator, leading)
    first = next(every, None)
    if first is None:
        raise ValueError(f"{name} holds at least one batch, but is empty; pass more")
    return first, itertools.chain([first], every)


def _checked(name: str, batches: Iterator[Any], leading: int) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        check_examples({f"{name}[{number}]": batch}, leading)
        yield batch


def check_examples(trees: dict[str, Any], leading: int) -> None:
    """Raise unless no leaf is empty and the leaves of each tree agree on their leading axes.

    Args:
        trees: of arrays, by the name of the argument.
        leading: how many axes come before those of an example.

    Raises:
        ValueError: naming all offenders.

    Example:
        >>> check_examples({"query": np.ones((2, 0, 3))}, leading=2)
        Traceback (most recent call last):
            ...
        ValueError: a batch needs at least one example, but query has shape (2, 0, 3); pass more
    """
    for argument, tree in trees.items():
        leaves, _ = flatten_with_paths(tree)
        shapes = {f"{argument}/{path}".strip("/"): np.shape(leaf) for path, leaf in leaves.items()}
        empty = [
            f"{path} has shape {shape}"
            for path, shape in shapes.items()
            if len(shape) < leading or 0 in shape[:leading]
        ]
        if empty or not shapes:
            facts = ", ".join(empty) or f"{argument} has no arrays"
            raise ValueError(f"a batch needs at least one example, but {facts}; pass more")
        if len({shape[:leading] for shape in shapes.values()}) > 1:
            raise ValueError(
                f"arrays of one batch agree on their first {leading} axes, but these do not: "
                f"{shapes}; index all of them with the same examples"
            )
