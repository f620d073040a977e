"""Restyling: a student's feature map with the stored statistics of its teacher's."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Style", "restyle", "style"]

SMALL = 1e-5


class Style(NamedTuple):
    """Per-channel statistics of feature maps, all that has to be stored of them.

    Attributes:
        mean: `float32[batch, channels]`, over positions.
        deviation: `float32[batch, channels]`, standard deviation over positions.
    """

    mean: jax.Array
    deviation: jax.Array


def style(features: jax.Array) -> Style:
    """Return mean and standard deviation of each channel of each example over positions.

    Args:
        features: `[batch, height, width, channels]`.

    Example:
        >>> style(jnp.array([[[[1.0], [3.0]]]])).deviation.tolist()
        [[1.0]]
    """
    features = features.astype(jnp.float32)
    return Style(features.mean(axis=(1, 2)), jnp.std(features, axis=(1, 2)))


def restyle(features: jax.Array, target: Style) -> jax.Array:
    """Give each channel the statistics of `target`: ``σ_T (x - μ(x)) / σ(x) + μ_T``.

    Where the student's map of a view gets the teacher's stored statistics of the image, what the
    teacher's last layers make of it is a target for that view, without the layers before them. The
    layers must not begin with the average over positions: that is μ_T, whatever the view.

    Args:
        features: x `[batch, height, width, channels]`.
        target: μ_T and σ_T, of the same examples and channels.

    Source:
        Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
        Normalization", 2017, equation 8. Its use as a teacher's assistant is ours.

    Example:
        >>> wanted = Style(jnp.array([[10.0]]), jnp.array([[2.0]]))
        >>> restyle(jnp.array([[[[1.0], [3.0]]]]), wanted).round(2).ravel().tolist()
        [8.0, 12.0]
    """
    current = style(features)
    factor = target.deviation / (current.deviation + SMALL)
    spread = (features.astype(jnp.float32) - current.mean[:, None, None]) * factor[:, None, None]
    return spread + target.mean[:, None, None]
