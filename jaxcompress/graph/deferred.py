"""An array whose split into ragged factors is put off: what runs while channels are shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxcompress.annotations import Array

__all__ = ["Deferred"]


@dataclass(frozen=True)
class Deferred:
    """An array whose split into ragged factors is put off until they are merged again.

    Attributes:
        array: the array before the split.
        places: for each dimension of the intended array, the dimension of `array` it is or is
            part of.
    """

    array: Array
    places: tuple[int, ...]

    def transpose(self, permutation: Sequence[int]) -> Deferred:
        """Permute the dimensions of the intended array."""
        return replace(self, places=tuple(self.places[i] for i in permutation))
