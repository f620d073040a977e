"""What a network is taught by another's stored logits: the logits, and the loss of every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.knowledge.losses import cross_entropy, kd

__all__ = ["distillation", "stored_logits"]


def stored_logits(
    apply: Function,
    variables: PyTree,
    images: Batch,
    *,
    preprocess: Callable[[Any], Any] | None = None,
    batch_size: int = 500,
) -> np.ndarray:
    """Return a network's logits `[n, classes]` of images as they are, without augmentation.

    Args:
        apply: in evaluation mode, `apply(variables, images) -> logits`.
        variables: of the network.
        images: `[n, height, width, channels]`.
        preprocess: of a batch, inside jit; None where `images` are normalised.
        batch_size: images per call.

    Example:
        >>> stored_logits(lambda scale, images: scale * images, 2.0, np.ones((3, 4))).shape
        (3, 4)
    """

    @jax.jit
    def logits(variables: PyTree, batch: Batch) -> Any:
        return apply(variables, batch if preprocess is None else preprocess(batch))

    starts = range(0, len(images), batch_size)
    return np.concatenate([logits(variables, images[i : i + batch_size]) for i in starts])


def distillation(logits: Array, batch: Batch, share: float, temperature: float) -> jax.Array:
    """Return (1 - share) CE(logits, label) + share KD(logits, stored), one value per example.

    Args:
        logits: the student's, `[batch, classes]`.
        batch: of `label` and, where `share` is not 0, the teacher's `logits`.
        share: of the loss that compares with the teacher's.
        temperature: of the comparison, see `jaxcompress.knowledge.kd`.

    Example:
        >>> batch = {"label": np.zeros(2, int), "logits": np.zeros((2, 3))}
        >>> distillation(np.zeros((2, 3)), batch, share=1.0, temperature=4.0).tolist()
        [0.0, 0.0]
    """
    value = (1 - share) * cross_entropy(logits, batch["label"])
    if share:
        value += share * kd(logits, batch["logits"], temperature)
    return value
