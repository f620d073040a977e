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

__all__ = ["Views", "view", "views"]

# Each operation draws from a stream of its own number: adding one never changes the others.
_CROP, _FLIP = 0, 1


@dataclasses.dataclass(frozen=True)
class Views:
    """What a view may change; `Views(pad=0, flip=False)` is the image itself.

    Attributes:
        pad: black pixels added on each side before a random crop of the original size.
        flip: mirror left and right with probability one half.

    Example:
        >>> Views()
        Views(pad=4, flip=True)
    """

    pad: int = 4
    flip: bool = True


def view(
    key: jax.Array,
    example: ArrayLike,
    index: ArrayLike,
    image: ArrayLike,
    *,
    settings: Views,
) -> jax.Array:
    """Draw the `index`-th view of example number `example`.

    All randomness comes from ``fold_in(fold_in(key, example), index)``. Pixels are moved, never
    computed with: the view of a uint8 image, normalised, is the view of that bitwise.

    Args:
        key: one for all examples.
        example: the number of the example in its data set.
        index: which of its views, e.g. the epoch.
        image: `[height, width, channels]`, uint8 or float, zero meaning black (so before
            normalising).
        settings: what may change.

    Returns:
        The view, of the shape and dtype of `image`.

    Example:
        >>> image = jnp.arange(12, dtype=jnp.uint8).reshape(2, 2, 3)
        >>> view(jax.random.key(0), 7, 0, image, settings=Views(pad=1)).shape
        (2, 2, 3)
    """
    key = jax.random.fold_in(jax.random.fold_in(key, example), index)
    image = jnp.asarray(image)
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


def _crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _flip(key: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
