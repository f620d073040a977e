"""Which example and which view of it stands at a position: a function of numbers, no state."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

__all__ = ["Address", "Order", "Shuffled", "Straight", "generator"]

ORDER, VIEW = 0, 1
"""Streams of random numbers: what is drawn for one never changes the other."""


def generator(seed: int, stream: int, first: int, second: int) -> np.random.Generator:
    """Return random numbers of their own for each pair: Philox, keyed by seed and stream.

    Philox turns a key and a counter into numbers. The pair stands in the upper half of the counter,
    the lower half counts what is drawn, so that no two pairs ever share a number, on any machine.

    Args:
        seed: of everything.
        stream: what the numbers are for.
        first: e.g. the example.
        second: e.g. the view.

    Example:
        >>> generator(0, VIEW, 7, 1).random() == generator(0, VIEW, 7, 1).random()
        True
    """
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, first, second]))


class Address(NamedTuple):
    """What stands at a position.

    Attributes:
        example: its number among the images.
        view: which of its views.
        is_real: False where it only fills a batch up.
    """

    example: int
    view: int
    is_real: bool = True


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """All examples in each epoch, in an order of its own, the remainder of a batch left out.

    Attributes:
        examples: how many there are.
        batch_size: examples of a step, of all processes together.
        epochs: how many.
        seed: of the order.
        views: an epoch shows its number modulo this; None for a new view each epoch.

    Raises:
        ValueError: if there is not one full batch.

    Example:
        >>> order = Shuffled(examples=5, batch_size=2, epochs=3, seed=0, views=2)
        >>> order.batches, sorted({order.address(p).example for p in range(4)} - set(range(5)))
        (6, [])
    """

    examples: int
    batch_size: int
    epochs: int
    seed: int
    views: int | None = None

    def __post_init__(self) -> None:
        """Refuse an epoch of nothing."""
        if self.examples < self.batch_size:
            raise ValueError(
                f"an epoch has at least one full batch, but {self.examples} examples are fewer "
                f"than batch_size={self.batch_size}; lower the batch size"
            )

    @property
    def epoch_batches(self) -> int:
        """Batches of one epoch."""
        return self.examples // self.batch_size

    @property
    def batches(self) -> int:
        """Batches of all epochs."""
        return self.epochs * self.epoch_batches

    def address(self, position: int) -> Address:
        """Return what stands at a position, counted through all epochs."""
        epoch, inside = divmod(position, self.epoch_batches * self.batch_size)
        example = int(_permutation(self.examples, self.seed, epoch)[inside])
        return Address(example, epoch if self.views is None else epoch % self.views)


@dataclasses.dataclass(frozen=True)
class Straight:
    """Every example once, in order; the last one fills the last batch up, and is not real there.

    Attributes:
        examples: how many there are.
        batch_size: examples of a batch, of all processes together.

    Example:
        >>> order = Straight(examples=3, batch_size=2)
        >>> order.batches, order.address(2), order.address(3)
        (2, Address(example=2, view=0, is_real=True), Address(example=2, view=0, is_real=False))
    """

    examples: int
    batch_size: int

    @property
    def batches(self) -> int:
        """How many there are, the last one filled up."""
        return -(-self.examples // self.batch_size)

    def address(self, position: int) -> Address:
        """Return what stands at a position."""
        return Address(min(position, self.examples - 1), 0, position < self.examples)


Order = Shuffled | Straight


@functools.lru_cache(maxsize=2)
def _permutation(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Shuffle by sorting uniform numbers, which does not depend on a release of NumPy."""
    return np.argsort(generator(seed, ORDER, epoch, 0).random(examples), kind="stable")
