"""Masks of padding: which positions of a sequence are there, and means over these alone.

    mask = length_mask(lengths, tokens.shape[1])
    student, teacher = without_padding((student_logits, teacher_logits), mask)
    loss = masked_mean(kd(student, teacher, 4.0), mask)  # [batch]

What stands at padding is replaced before the loss: NaN times the zero of a mask is NaN, in
gradients even where the value is thrown away.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.paths import flatten_with_paths

__all__ = ["length_mask", "masked_mean", "without_padding"]


def length_mask(lengths: Array, length: int) -> jax.Array:
    """Say which positions lie inside of each sequence: ``mask[b, t] = t < lengths[b]``.

    Args:
        lengths: `int[batch]`, how many tokens of each are no padding; 0 for none.
        length: of the padded axis.

    Returns:
        `bool[batch, length]`.

    Raises:
        ValueError: if lengths are no integers `[batch]`, or known and outside 0 to `length`.

    Example:
        >>> length_mask([2, 0], 3).tolist()
        [[True, True, False], [False, False, False]]
    """
    require(length=integer(length))
    known = lengths if isinstance(lengths, jax.core.Tracer) else np.asarray(lengths)
    if known.ndim != 1 or not jnp.issubdtype(known.dtype, jnp.integer):
        raise ValueError(
            "lengths are one whole number per example, int[batch], but are "
            f"{known.dtype}{list(known.shape)}"
        )
    if isinstance(known, np.ndarray):
        outside = np.flatnonzero((known < 0) | (known > length))
        if outside.size:
            raise ValueError(
                f"a sequence has 0 to {length} tokens, as long as the axis is, but examples "
                f"{outside[:8].tolist()} (of {outside.size}) have {known[outside[:8]].tolist()}; "
                "cut them, or lengthen the axis"
            )
    return jnp.arange(length) < jnp.asarray(known)[:, None]


def masked_mean(values: Array, mask: Array) -> jax.Array:
    """Average values over the positions that are there: ``Σ_t m_bt v_bt / Σ_t m_bt``.

    Args:
        values: v `[batch, length]`, such as `kd` of logits `[batch, length, classes]`; anything
            where there is padding, NaN and infinity too.
        mask: m `[batch, length]`, nonzero where a position is no padding.

    Returns:
        `float32[batch]`; 0 for an example without positions, its gradient too.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> values = jnp.array([[1.0, 3.0, jnp.nan], [jnp.inf, 0.0, 0.0]])
        >>> masked_mean(values, length_mask([2, 0], 3)).tolist()
        [2.0, 0.0]
    """
    if np.shape(values) != np.shape(mask):
        raise ValueError(
            "a mask says of each value whether its position is there, but values are "
            f"{list(np.shape(values))} and the mask {list(np.shape(mask))}; give the loss one "
            "value per position, and the mask of the same batch"
        )
    there = jnp.asarray(mask) != 0
    kept = jnp.where(there, jnp.asarray(values).astype(jnp.float32), 0.0)
    return kept.sum(-1) / jnp.maximum(there.sum(-1), 1)


def without_padding(arrays: PyTree, mask: Array) -> PyTree:
    """Put zeros where there is padding, whatever stood there; no gradient passes from it.

    Args:
        arrays: a pytree. Arrays of three axes or more have positions, `[batch, length, ...]`;
            smaller ones, such as features `[batch, width]` of whole sequences, stay as they are.
        mask: `[batch, length]`, nonzero where a position is no padding.

    Raises:
        ValueError: if no array has positions, or one has others than the mask; each is named.

    Example:
        >>> logits = jnp.array([[[1.0, 2.0], [jnp.nan, -jnp.inf]]])
        >>> without_padding(logits, jnp.array([[True, False]])).tolist()
        [[[1.0, 2.0], [0.0, 0.0]]]
    """
    check_positions(arrays, mask)
    there = jnp.asarray(mask) != 0

    def kept(leaf: Array) -> Array:
        if leaf.ndim < 3:
            return leaf
        inside = there.reshape(*there.shape, *[1] * (leaf.ndim - 2))
        return jnp.where(inside, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(kept, arrays)


def check_positions(arrays: PyTree, mask: Array) -> None:
    """Raise unless a mask is of the positions of some arrays; shapes are enough.

    Example:
        >>> check_positions(np.zeros((1, 2, 3)), np.ones((1, 2)))
    """
    shapes = {path: leaf.shape for path, leaf in flatten_with_paths(arrays)[0].items()}
    sequences = {path: shape for path, shape in shapes.items() if len(shape) >= 3}
    wrong = {path: shape for path, shape in sequences.items() if shape[:2] != np.shape(mask)}
    if wrong or not sequences:
        raise ValueError(
            "a mask [batch, length] is of the positions of arrays [batch, length, ...], but it is "
            f"{list(np.shape(mask))} and the arrays are {wrong or shapes}; give the mask of the "
            "same batch, and arrays whose second axis is that of the positions"
        )
