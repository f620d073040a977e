"""Where in an image a view lies: numbers alone, no pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from experiments.common.streaming.orders import VIEW, generator

__all__ = ["Box", "Crop", "centre", "random_box"]

ASPECTS = (3 / 4, 4 / 3)
TRIES = 10


class Box(NamedTuple):
    """A part of an image, in pixels of the whole, fractions included.

    Attributes:
        left: first column.
        top: first row.
        width: columns.
        height: rows.
        is_mirrored: whether left and right change places.
    """

    left: float
    top: float
    width: float
    height: float
    is_mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class Crop:
    """What a view may be: a part of the image, brought to a square, mirrored or not.

    Attributes:
        size: height and width of the view.
        least_area: the smallest part of the image's area.
        flip: mirror left and right with probability one half.
    """

    size: int = 224
    least_area: float = 0.08
    flip: bool = True


def random_box(seed: int, example: int, view: int, width: int, height: int, settings: Crop) -> Box:
    """Draw a view of an image: area and aspect at random, then the place (Inception's crop).

    The numbers are those of `orders.generator(seed, VIEW, example, view)`: what `knowledge.view` is
    on devices by `fold_in(fold_in(key, example), view)`, this is on the host.

    Args:
        seed: of all views.
        example: its number.
        view: which of its views.
        width: of the image.
        height: of the image.
        settings: what a view may be.

    Source:
        Szegedy et al., "Going Deeper with Convolutions", 2015, section 6; the bounds, tries and the
        way out after them as torchvision's RandomResizedCrop.

    Example:
        >>> box = random_box(0, 7, 1, 500, 375, Crop())
        >>> (
        ...     box == random_box(0, 7, 1, 500, 375, Crop()),
        ...     box == random_box(0, 7, 2, 500, 375, Crop()),
        ... )
        (True, False)
    """
    random = generator(seed, VIEW, example, view)
    # Drawn first: how many tries the crop takes does not change it.
    is_mirrored = bool(random.random() < 0.5) and settings.flip
    for _ in range(TRIES):
        area = width * height * random.uniform(settings.least_area, 1)
        aspect = math.exp(random.uniform(*np.log(ASPECTS)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = math.floor(random.random() * (width - wide + 1))
            top = math.floor(random.random() * (height - high + 1))
            return Box(left, top, wide, high, is_mirrored)
    return _largest(width, height)._replace(is_mirrored=is_mirrored)


def _largest(width: int, height: int) -> Box:
    """Return the largest part in the middle whose aspect is allowed."""
    least, most = ASPECTS
    wide, high = min(width, height * most), min(height, width / least)
    return Box((width - wide) / 2, (height - high) / 2, wide, high)


def centre(width: int, height: int, share: float) -> Box:
    """Return the square in the middle whose side is a share of the shorter side.

    Of 224 / 256 this is to bring the shorter side to 256 pixels and cut out 224, in one step.

    Example:
        >>> centre(320, 256, 224 / 256)
        Box(left=48.0, top=16.0, width=224.0, height=224.0, is_mirrored=False)
    """
    side = share * min(width, height)
    return Box((width - side) / 2, (height - side) / 2, side, side)
