"""Changes of colour in whole numbers: the same bits on every device and at every batch size.

Floating-point colour would round differently where a compiler fuses or vectorises differently, and
stored knowledge would no longer belong to the view drawn again. Factors are 1024ths instead.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["brightness", "contrast", "saturation"]

ONE = 1024
# Luma of ITU-R BT.601 in 256ths.
LUMA = (77, 150, 29)


def brightness(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Add one number to all pixels: ``image + 255 d``, d uniform in [-strength, strength].

    Args:
        key: of the draw.
        image: `uint8[height, width, channels]`.
        strength: largest change, as a fraction of white.

    Example:
        >>> image = jnp.full((1, 1, 3), 100, jnp.uint8)
        >>> brightness(jax.random.key(0), image, 0.0).tolist()
        [[[100, 100, 100]]]
    """
    largest = round(255 * strength)
    return _to_pixels(image.astype(jnp.int32) + _uniform(key, -largest, largest))


def contrast(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Scale the distance of each pixel from its channel's mean by 1 - strength to 1 + strength.

    Args:
        key: of the draw.
        image: `uint8[height, width, channels]`, below 8 million pixels.
        strength: largest change of the factor.

    Example:
        >>> image = jnp.array([[[50], [150]]], jnp.uint8)
        >>> contrast(jax.random.key(0), image, 0.0).tolist()
        [[[50], [150]]]
    """
    pixels = image.shape[0] * image.shape[1]
    mean = jnp.sum(image, axis=(0, 1), dtype=jnp.int32) // pixels
    return _stretch(key, image, mean, strength)


def saturation(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Scale the distance of each pixel from its own grey by 1 - strength to 1 + strength.

    Args:
        key: of the draw.
        image: `uint8[height, width, 3]`; other numbers of channels have no grey and stay.
        strength: largest change of the factor.

    Example:
        >>> image = jnp.full((1, 1, 3), 100, jnp.uint8)
        >>> saturation(jax.random.key(0), image, 0.9).tolist()
        [[[100, 100, 100]]]
    """
    if image.shape[-1] != len(LUMA):
        return image
    grey = jnp.sum(image.astype(jnp.int32) * jnp.array(LUMA), axis=-1, keepdims=True) >> 8
    return _stretch(key, image, grey, strength)


def _stretch(key: jax.Array, image: jax.Array, centre: jax.Array, strength: float) -> jax.Array:
    largest = round(ONE * strength)
    factor = _uniform(key, ONE - largest, ONE + largest)
    distance = (image.astype(jnp.int32) - centre) * factor
    return _to_pixels(centre + ((distance + ONE // 2) >> 10))


def _uniform(key: jax.Array, lowest: int, highest: int) -> jax.Array:
    return jax.random.randint(key, (), lowest, highest + 1)


def _to_pixels(values: jax.Array) -> jax.Array:
    return jnp.clip(values, 0, 255).astype(jnp.uint8)
