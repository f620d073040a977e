"""Views by number, for whoever stores what a teacher says of them."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from experiments.common.streaming.crops import Crop, random_box
from experiments.common.streaming.images import Images
from experiments.common.streaming.pictures import picture
from jaxcompress.annotations import Json
from jaxcompress.knowledge import Source

__all__ = ["DrawnViews", "source_of", "view_of"]


def view_of(images: Images, example: int, view: int, crop: Crop, seed: int) -> np.ndarray:
    """Decode one view, `uint8[size, size, 3]`: a function of the numbers alone.

    Args:
        images: what is read.
        example: its number there.
        view: which of its views.
        crop: what a view may be.
        seed: of all views.
    """
    place = partial(random_box, seed, example, view)
    return picture(images[example].data, crop.size, lambda w, h: place(w, h, crop))


@dataclasses.dataclass(frozen=True)
class DrawnViews:
    """All views of all images, decoded when they are asked for.

    Attributes:
        images: what is read.
        crop: what a view may be.
        seed: of all views.
        threads: that decode, which Pillow does beside Python.
    """

    images: Images
    crop: Crop
    seed: int
    threads: int = 1

    def __getitem__(self, address: tuple[Any, Any]) -> np.ndarray:
        """Return `uint8[batch, size, size, 3]` of `(int[batch], int[batch])`: examples, views."""
        pairs = zip(*(np.asarray(numbers).tolist() for numbers in address), strict=True)
        with ThreadPoolExecutor(self.threads) as pool:
            shown = list(pool.map(lambda pair: self._view(*pair), pairs))
        return np.stack(shown)

    def _view(self, example: int, view: int) -> np.ndarray:
        return view_of(self.images, example, view, self.crop, self.seed)

    def describe(self) -> dict[str, Json]:
        """Say how views are drawn, for JSON."""
        return {"crop": dataclasses.asdict(self.crop), "seed": self.seed}


def source_of(drawn: DrawnViews, views: int) -> Source:
    """Return what a teacher looks at: the first views of all images.

    Args:
        drawn: the views.
        views: how many of each image.
    """
    return Source(
        drawn, len(drawn.images), drawn.images.identity, views=views, on_host=drawn.describe()
    )
