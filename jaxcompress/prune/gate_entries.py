"""Taking entries of gates so that their gradient needs no scatter.

The gradient of an index is a scatter. XLA splits none over devices: each computes it from the rows
of all, which are gathered for it. Neighbours are therefore sliced, and rows in order repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array

__all__ = ["at_slots", "of_examples"]


def at_slots(arrays: Sequence[Array], slots: np.ndarray) -> Array:
    """Return the gates that slots point to, `[..., slots]`.

    Only of groups that occur: what a gate does not reach does not depend on it.

    Args:
        arrays: the gates of groups, all `[width]` or all `[examples, width]`.
        slots: 1 + the place among all gates; 0 for what has none, and counts as 1.

    Example:
        >>> at_slots([jnp.array([2.0, 3.0]), jnp.array([4.0])], np.array([0, 3, 1])).tolist()
        [1.0, 4.0, 2.0]
    """
    starts = np.cumsum([1, *(array.shape[-1] for array in arrays)])
    owner = np.searchsorted(starts, slots, side="right") - 1
    parts, places = [jnp.ones((*arrays[0].shape[:-1], 1))], np.zeros_like(slots)
    for number in np.unique(owner[owner >= 0]):
        inside = owner == number
        before = sum(array.shape[-1] for array in parts)
        places[inside] = slots[inside] - starts[number] + before
        parts.append(arrays[number])
    flat, first, count = jnp.concatenate(parts, axis=-1), int(places[0]), len(places)
    if np.array_equal(places, first + np.arange(count)):
        return flat[..., first : first + count]
    return flat[..., places]


def of_examples(gates: Array, rows: np.ndarray) -> Array:
    """Return each row's gates, those of its example.

    Args:
        gates: `[examples, size]`.
        rows: the example of each row.

    Example:
        >>> of_examples(jnp.array([[1], [2]]), np.array([0, 0, 1, 1]))[:, 0].tolist()
        [1, 1, 2, 2]
    """
    times = len(rows) // max(len(gates), 1)
    if not np.array_equal(rows, np.repeat(np.arange(len(gates)), times)):
        return gates[rows]
    return gates if times == 1 else jnp.repeat(gates, times, axis=0)
