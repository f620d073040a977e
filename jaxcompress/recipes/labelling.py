"""Cross-entropy of labels, of whole examples or of every position that has one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.knowledge import cross_entropy, masked_mean, without_padding

__all__ = ["label_loss"]


def label_loss(logits: jax.Array, labels: Array, mask: Array | None = None) -> jax.Array:
    """Return the cross-entropy of each example, of sequences the mean over labelled positions.

    Args:
        logits: `[batch, classes]` or `[batch, length, classes]`.
        labels: `int[batch]` or `int[batch, length]`, where a negative one says that there is none.
        mask: `[batch, length]`, nonzero where a position is no padding; None for all.

    Returns:
        `float32[batch]`.

    Raises:
        ValueError: if labels or mask are of other positions than the logits.

    Example:
        >>> label_loss(jnp.zeros((1, 3, 4)), jnp.array([[2, 9, -1]]), jnp.array([[1, 0, 1]]))
        Array([1.3862944], dtype=float32)
    """
    labels = jnp.asarray(labels)
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            "there is one label per row of logits, but these are "
            f"{list(logits.shape)} and the labels {list(labels.shape)}; pass labels [batch], or "
            "[batch, length] for logits [batch, length, classes]"
        )
    if labels.ndim == 1:
        return cross_entropy(logits, labels)
    there = labels >= 0
    if mask is not None:
        logits = without_padding(logits, mask)
        there &= jnp.asarray(mask) != 0
    return masked_mean(cross_entropy(logits, jnp.where(there, labels, 0)), there)
