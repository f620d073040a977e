"""Sequences of tokens as data: padded, checked, and what follows each token as its label."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import integer, require
from jaxcompress.knowledge.masking import length_mask

__all__ = ["NO_LABEL", "next_tokens", "pad_sequences"]

NO_LABEL = -1
"""The label of a position that has none; any negative number says the same."""


def pad_sequences(
    sequences: Sequence[Array], *, vocabulary: int, length: int | None = None
) -> dict[str, np.ndarray]:
    """Put sequences of unlike lengths into one array, and say which positions are there.

    The result is what `Source` and the transformers of `jaxcompress.models` take.

    Args:
        sequences: `int[any]` each, ids of tokens; one may be empty.
        vocabulary: ids are 0 to this, exclusive.
        length: of the padded axis; by default that of the longest.

    Returns:
        ``{"tokens": int32[examples, length], "mask": bool[examples, length]}``, tokens 0 where
        there is padding.

    Raises:
        ValueError: if there are no sequences, one is longer than the axis, or ids are no integers
            or outside the vocabulary; the examples are named.

    Example:
        >>> padded = pad_sequences([[5, 6], [7]], vocabulary=8)
        >>> padded["tokens"].tolist(), padded["mask"].tolist()
        ([[5, 6], [7, 0]], [[True, True], [True, False]])
    """
    require(vocabulary=integer(vocabulary), length=integer(length, optional=True))
    arrays = [np.asarray(sequence) for sequence in sequences]
    _check(arrays, vocabulary)
    lengths = np.array([len(array) for array in arrays])
    width = max(int(lengths.max()), 1) if length is None else length
    mask = np.asarray(length_mask(lengths, width))
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = np.concatenate([array.astype(np.int32) for array in arrays])
    return {"tokens": tokens, "mask": mask}


def _check(arrays: Sequence[np.ndarray], vocabulary: int) -> None:
    """Raise unless all are rows of ids."""
    if not arrays:
        raise ValueError("a data set has at least one sequence, but there is none")
    odd = {
        number: f"{array.dtype}{list(array.shape)}"
        for number, array in enumerate(arrays)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu")
    }
    outside = {
        number: sorted({int(array.min()), int(array.max())})
        for number, array in enumerate(arrays)
        if number not in odd and array.size and (array.min() < 0 or array.max() >= vocabulary)
    }
    if odd or outside:
        few = dict(list({**odd, **outside}.items())[:8])
        raise ValueError(
            f"tokens are whole numbers from 0 to {vocabulary - 1}, in one row an example, but "
            f"{len(odd) + len(outside)} examples are not: {few}; cut the text by the tokenizer of "
            "this vocabulary"
        )


def next_tokens(tokens: Array, mask: Array | None = None) -> jax.Array:
    """Label each token with the one that follows it, -1 where none does.

    Args:
        tokens: `int[batch, length]`.
        mask: `[batch, length]`, nonzero where a position is no padding; None for all.

    Returns:
        `int32[batch, length]`, -1 at the last token, at padding and before it.

    Raises:
        ValueError: if the mask has another shape.

    Example:
        >>> next_tokens(jnp.array([[5, 6, 7, 0]]), jnp.array([[1, 1, 1, 0]])).tolist()
        [[6, 7, -1, -1]]
    """
    tokens = jnp.asarray(tokens)
    there = jnp.ones(tokens.shape, bool) if mask is None else jnp.asarray(mask) != 0
    if tokens.ndim != 2 or there.shape != tokens.shape:
        raise ValueError(
            "a mask says of each token whether it is there, but tokens are "
            f"{list(tokens.shape)} and the mask {list(there.shape)}; both are [batch, length]"
        )
    following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    follows = jnp.pad(there[:, 1:], ((0, 0), (0, 1))) & there
    return jnp.where(follows, following, NO_LABEL).astype(jnp.int32)
