"""Mixup and cutmix whose partner and share are chosen by the key of the view itself.

So a mixed view is as reproducible as a plain one: neither the rest of the batch nor its order
matters, and what a teacher said about it can be stored. All arithmetic is in whole numbers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.special import betaincinv

from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.drawing import MIX, PARTNER, Views, view_key, views

__all__ = ["Mix", "Mixed", "mixed_views", "partners"]

ONE = 1 << 16
QUANTILES = 1024

Kind: TypeAlias = Literal["mixup", "cutmix"]


@dataclasses.dataclass(frozen=True)
class Mix:
    """How a view is mixed with another example.

    Attributes:
        kind: `mixup` averages pixels, `cutmix` pastes a box.
        examples: partners are drawn from the examples 0 to this, exclusive.
        alpha: the share of the example itself is drawn from Beta(alpha, alpha).

    Raises:
        ValueError: if there are no examples, `alpha` is not positive and finite, or the kind is
            unknown.

    Source:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, section 2. Yun et al.,
        "CutMix", 2019, section 3.1. Both draw one share per batch; here each view has its own.

    Example:
        >>> Mix("mixup", examples=50_000).alpha
        1.0
    """

    kind: Kind
    examples: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that draw nothing."""
        require(examples=integer(self.examples), alpha=real(self.alpha, above=0))
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, but is {self.kind!r}")


class Mixed(NamedTuple):
    """A batch of mixed views.

    Attributes:
        images: `uint8[batch, height, width, channels]`.
        weights: `float32[batch]`, the share of the example itself: the target is
            ``weight * label + (1 - weight) * partner's``.
    """

    images: jax.Array
    weights: jax.Array


def partners(key: jax.Array, examples: ArrayLike, indices: ArrayLike, *, mix: Mix) -> jax.Array:
    """Choose with which example each view is mixed.

    Args:
        key: one for all examples.
        examples: `int[batch]`, their numbers in the data set.
        indices: `int[batch]`, or one number for all: which view of each.
        mix: the settings.

    Returns:
        `int32[batch]`, numbers of examples; an example may meet itself.

    Example:
        >>> mix = Mix("mixup", examples=9)
        >>> partners(jax.random.key(0), jnp.arange(3), 0, mix=mix).shape
        (3,)
    """

    def partner(example: jax.Array, index: jax.Array) -> jax.Array:
        partner_key = jax.random.fold_in(view_key(key, example, index), PARTNER)
        return jax.random.randint(partner_key, (), 0, mix.examples)

    indices = jnp.broadcast_to(jnp.asarray(indices), jnp.shape(examples))
    return jax.vmap(partner)(jnp.asarray(examples), indices)


def mixed_views(
    key: jax.Array,
    examples: ArrayLike,
    indices: ArrayLike,
    images: ArrayLike,
    partner_images: ArrayLike,
    *,
    settings: Views,
    mix: Mix,
) -> Mixed:
    """Mix the view of each example with the view of the same number of its partner.

    Args:
        key: one for all examples.
        examples: `int[batch]`.
        indices: `int[batch]`, or one number for all.
        images: `uint8[batch, height, width, channels]`, of the examples.
        partner_images: those of `partners(key, examples, indices, mix=mix)`.
        settings: of the plain views.
        mix: of the mixing.

    Raises:
        TypeError: if the images are not uint8.

    Example:
        >>> images = jnp.full((2, 4, 4, 3), 200, jnp.uint8)
        >>> mix = Mix("cutmix", examples=2)
        >>> mixed = mixed_views(
        ...     jax.random.key(0), jnp.arange(2), 0, images, images, settings=Views(pad=0), mix=mix
        ... )
        >>> bool((mixed.images == 200).all()), mixed.weights.shape
        (True, (2,))
    """
    if jnp.asarray(images).dtype != jnp.uint8:
        raise TypeError(
            "views are mixed in whole numbers and take uint8 images, but these are "
            f"{jnp.asarray(images).dtype}; normalise after mixing"
        )
    indices = jnp.broadcast_to(jnp.asarray(indices), jnp.shape(examples))
    drawn = views(key, examples, indices, images, settings=settings)
    others = partners(key, examples, indices, mix=mix)
    other = views(key, others, indices, partner_images, settings=settings)
    blend = _mixup if mix.kind == "mixup" else _cutmix
    shares = jnp.asarray(_shares(mix.alpha))

    def one(example: jax.Array, index: jax.Array, a: jax.Array, b: jax.Array) -> Mixed:
        own_key = jax.random.fold_in(view_key(key, example, index), MIX)
        share_key, place_key = jax.random.split(own_key)
        share = shares[jax.random.randint(share_key, (), 0, QUANTILES)]
        return blend(place_key, a, b, share)

    return jax.vmap(one)(jnp.asarray(examples), indices, drawn, other)


def _shares(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) in 65536ths: a table, as drawing from it is not exact."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.round(ONE * betaincinv(alpha, alpha, levels)).astype(np.int32)


def _mixup(key: jax.Array, image: jax.Array, other: jax.Array, share: jax.Array) -> Mixed:
    del key
    total = image.astype(jnp.int32) * share + other.astype(jnp.int32) * (ONE - share)
    return Mixed(((total + ONE // 2) >> 16).astype(jnp.uint8), share.astype(jnp.float32) / ONE)


def _cutmix(key: jax.Array, image: jax.Array, other: jax.Array, share: jax.Array) -> Mixed:
    """Paste a box of the other's pixels; its share is counted after clipping at the border."""
    height, width, _ = image.shape
    rows, columns = jax.random.split(key)
    inside = _span(rows, height, share)[:, None] & _span(columns, width, share)[None, :]
    pixels = height * width
    scale = 1 << min(16, 31 - pixels.bit_length())
    kept = pixels - jnp.sum(inside, dtype=jnp.int32)
    weight = (kept * scale // pixels).astype(jnp.float32) / scale
    return Mixed(jnp.where(inside[..., None], other, image), weight)


def _span(key: jax.Array, size: int, share: jax.Array) -> jax.Array:
    """Which rows (or columns) a box of sqrt(1 - share) of their number covers."""
    lengths = np.array([math.isqrt((s << 16) * size * size) >> 16 for s in range(0, ONE + 1, 64)])
    length = jnp.asarray(lengths, jnp.int32)[(ONE - share) >> 6]
    start = jax.random.randint(key, (), 0, size) - length // 2
    position = jnp.arange(size)
    return (position >= start) & (position < start + length)
