"""Gates on a labelled program: what multiplies its channels where they are summed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Function
from jaxcompress.graph.axes import Value
from jaxcompress.graph.labelling import Labelling

__all__ = ["Gates"]


@dataclass(frozen=True, eq=False)
class Gates:
    """Multiplies one operand of a sum by gates: `(node, dimensions, arrays) -> arrays`.

    Attributes:
        names: of the groups.
        arrays: their gates, all `[width]` or all `[examples, width]`.
        slots: `int[labels]`, 1 + the place of each label's gate among all gates; 0 without one.
        labelling: what the labels are of.
        multiplier: `(labelling, slots, arrays, is_linear) -> function`, makes what multiplies.
        is_linear: whether it multiplies tangents, of which nothing may be asked, and gates have no
            gradient: inside a derivative rule of the user's.
    """

    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    slots: np.ndarray
    labelling: Labelling
    multiplier: Callable[..., Function]
    is_linear: bool = False

    @cached_property
    def _multiply(self) -> Function:
        given = self.labelling, self.slots, self.arrays
        return self.multiplier(*given, self.is_linear)

    def __call__(
        self, node: Any, dimensions: Sequence[tuple[int, ...]], arrays: Sequence[Any]
    ) -> Sequence[Any]:
        """Return operands of which one is multiplied."""
        return self._multiply(node, dimensions, arrays)

    def given(self, arrays: Sequence[Array]) -> Gates:
        """Return other gates of the same groups."""
        return replace(self, arrays=tuple(arrays))

    def on(self, labelling: Labelling, slots: np.ndarray) -> Gates:
        """Return the same gates on another labelled program, a derivative rule of the user's."""
        return replace(self, labelling=labelling, slots=slots, is_linear=True)

    def owners(self, slots: np.ndarray) -> set[int]:
        """Return the positions, among `names`, of the groups that slots are of."""
        ends = np.cumsum([array.shape[-1] for array in self.arrays])
        return set(np.searchsorted(ends, slots[slots > 0], side="left").tolist())

    def binary(self, slots: np.ndarray) -> Gates:
        """Return gates that only say whether a channel is there, for the groups of some slots."""
        there = self.owners(slots)
        return self.given(
            [
                (array != 0).astype(array.dtype) if number in there else array
                for number, array in enumerate(self.arrays)
            ]
        )

    def scaled(self, array: Array, value: Value) -> Array:
        """Multiply a labelled array by the gates of all its axes."""
        every = jnp.concatenate([jnp.ones(1), *self.arrays])
        for dimension, axis in enumerate(value.axes):
            if axis.labels is not None and self.slots[axis.labels].any():
                shape = [1] * len(value.axes)
                shape[dimension] = axis.size
                factor = every[self.slots[axis.labels]].reshape(shape)
                array = jnp.where(factor == 0, 0, array * factor).astype(array.dtype)
        return array
