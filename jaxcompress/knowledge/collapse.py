"""Collapse: whether a network still answers differently to different views of one image.

A student that is taught one fixed answer for all views of an image learns to ignore them. Its
variance over views then falls far below the teacher's own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Spread", "spread"]


class Spread(NamedTuple):
    """How logits vary.

    Attributes:
        views: `float32[]`, variance over the views of one image, averaged over images and classes.
        images: `float32[]`, variance over images of the mean over views, averaged over classes.
    """

    views: jax.Array
    images: jax.Array

    @property
    def ratio(self) -> jax.Array:
        """Variance over views as a multiple of that over images: free of the logits' scale."""
        return self.views / self.images


def spread(logits: jax.Array) -> Spread:
    """Measure how much logits vary over the views of an image and over images.

    ``views = mean_{i,c} Var_v z_vic`` and ``images = mean_c Var_i E_v z_vic``, of logits whose mean
    over classes is subtracted first, as it changes no answer. Variances are of the population.

    Args:
        logits: `[views, images, classes]`.

    Example:
        >>> logits = jnp.array([[[1.0, -1.0]], [[3.0, -3.0]]])
        >>> float(spread(logits).views)
        1.0
    """
    logits = logits.astype(jnp.float32)
    centred = logits - logits.mean(axis=-1, keepdims=True)
    views = jnp.var(centred, axis=0).mean()
    return Spread(views, jnp.var(centred.mean(axis=0), axis=0).mean())
