"""Views: the v-th augmentation of example i, a pure function of (key, i, v).

Neither batch size nor shuffling, worker or device changes a view, so whatever a teacher said
about it can be stored once under (i, v) and the same view drawn again later.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.colour import brightness, contrast, saturation

__all__ = ["MIX", "PARTNER", "Views", "view", "view_key", "views"]

# Each operation draws from a stream of its own number: adding one never changes the others.
_CROP, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, PARTNER, MIX = range(7)


@dataclasses.dataclass(frozen=True)
class Views:
    """What a view may change; `Views(pad=0, flip=False)` is the image itself.

    Colour changes first, then the image is cropped and flipped.

    Attributes:
        pad: black pixels added on each side before a random crop of the original size.
        flip: mirror left and right with probability one half.
        brightness: largest change, as a fraction of white.
        contrast: largest change of the factor 1.
        saturation: largest change of the factor 1; for images of three channels.

    Raises:
        ValueError: if a strength of colour is outside 0 to 1, or `pad` is negative.

    Example:
        >>> Views(brightness=0.2).pad
        4
    """

    pad: int = 4
    flip: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that are no augmentation."""
        require(
            pad=integer(self.pad, least=0),
            **{name: real(getattr(self, name), least=0, most=1) for name in _COLOURS},
        )

    @property
    def colours(self) -> bool:
        """Whether pixels are computed with, not only moved."""
        return any(getattr(self, name) for name in _COLOURS)


_COLOURS = ("brightness", "contrast", "saturation")


def view_key(key: jax.Array, example: ArrayLike, index: ArrayLike) -> jax.Array:
    """Return the key of one view: ``fold_in(fold_in(key, example), index)``.

    Example:
        >>> view_key(jax.random.key(0), 7, 0).shape
        ()
    """
    return jax.random.fold_in(jax.random.fold_in(key, example), index)


def view(
    key: jax.Array,
    example: ArrayLike,
    index: ArrayLike,
    image: ArrayLike,
    *,
    settings: Views,
) -> jax.Array:
    """Draw the `index`-th view of example number `example`.

    All randomness comes from `view_key(key, example, index)`. Without colour pixels are moved,
    never computed with: the view of a uint8 image, normalised, is the view of that bitwise. Colour
    is computed in whole numbers, so it takes uint8 and is bitwise the same everywhere as well.

    Args:
        key: one for all examples.
        example: the number of the example in its data set.
        index: which of its views, e.g. the epoch.
        image: `[height, width, channels]`, uint8 or float, zero meaning black (so before
            normalising).
        settings: what may change.

    Returns:
        The view, of the shape and dtype of `image`.

    Raises:
        TypeError: if the colour of an image other than uint8 is to change.

    Example:
        >>> image = jnp.arange(12, dtype=jnp.uint8).reshape(2, 2, 3)
        >>> view(jax.random.key(0), 7, 0, image, settings=Views(pad=1)).shape
        (2, 2, 3)
    """
    key = view_key(key, example, index)
    image = jnp.asarray(image)
    if settings.colours:
        image = _colour(key, image, settings)
    if settings.pad:
        image = _crop(jax.random.fold_in(key, _CROP), image, settings.pad)
    if settings.flip:
        image = _flip(jax.random.fold_in(key, _FLIP), image)
    return image


def views(
    key: jax.Array,
    examples: ArrayLike,
    indices: ArrayLike,
    images: ArrayLike,
    *,
    settings: Views,
) -> jax.Array:
    """Draw one view of each example of a batch.

    Args:
        key: one for all examples.
        examples: `int[batch]`, their numbers in the data set.
        indices: `int[batch]`, or one number for all: which view of each.
        images: `[batch, height, width, channels]`.
        settings: what may change.

    Returns:
        `[batch, height, width, channels]`; row b is `view(key, examples[b], indices[b], ...)`.

    Example:
        >>> images = jnp.zeros((5, 8, 8, 3), jnp.uint8)
        >>> views(jax.random.key(0), jnp.arange(5), 0, images, settings=Views()).shape
        (5, 8, 8, 3)
    """
    indices = jnp.broadcast_to(jnp.asarray(indices), jnp.shape(examples))
    one = functools.partial(view, settings=settings)
    return jax.vmap(one, in_axes=(None, 0, 0, 0))(key, examples, indices, images)


def _colour(key: jax.Array, image: jax.Array, settings: Views) -> jax.Array:
    if image.dtype != jnp.uint8:
        raise TypeError(
            f"colour changes in whole numbers and takes uint8 images, but this is {image.dtype}; "
            "normalise after drawing the view"
        )
    if settings.brightness:
        image = brightness(jax.random.fold_in(key, _BRIGHTNESS), image, settings.brightness)
    if settings.contrast:
        image = contrast(jax.random.fold_in(key, _CONTRAST), image, settings.contrast)
    if settings.saturation:
        image = saturation(jax.random.fold_in(key, _SATURATION), image, settings.saturation)
    return image


def _crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _flip(key: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
