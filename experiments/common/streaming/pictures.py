"""Decode the part of an image that a view shows, and no more of it than that needs."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

from experiments.common.streaming.crops import Box

__all__ = ["picture"]

Place = Callable[[int, int], Box]
"""`place(width, height)`: which part of an image of that size is shown."""


def picture(data: bytes, size: int, place: Place) -> np.ndarray:
    """Decode an image and bring a part of it to a square, by bilinear filtering.

    A JPEG is decoded at a half, a quarter or an eighth where that is still as fine as the view.

    Args:
        data: of a JPEG or PNG file.
        size: height and width of the result.
        place: which part is shown.

    Returns:
        `uint8[size, size, 3]`; what is transparent stands on white.

    Raises:
        ValueError: if the data are no image.

    Example:
        >>> stream = io.BytesIO()
        >>> Image.new("RGB", (40, 30), "red").save(stream, "PNG")
        >>> picture(stream.getvalue(), 2, lambda w, h: Box(0, 0, w, h))[0, 0].tolist()
        [255, 0, 0]
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            box = place(*image.size)
            return _shown(image, size, box)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"images are whole JPEG or PNG files, but one is not ({error})") from error


def _shown(image: ImageFile.ImageFile, size: int, box: Box) -> np.ndarray:
    width, height = image.size
    needed = round(width * size / box.width), round(height * size / box.height)
    if image.format == "JPEG":
        image.draft("RGB", (min(width, needed[0]), min(height, needed[1])))
    wide, high = image.size[0] / width, image.size[1] / height
    left, top = box.left * wide, box.top * high
    right, bottom = left + box.width * wide, top + box.height * high
    # Rounding must not ask for a fraction of a pixel outside.
    inside = left, top, min(right, image.size[0]), min(bottom, image.size[1])
    colours = _opaque(image).resize((size, size), Image.Resampling.BILINEAR, box=inside)
    if box.is_mirrored:
        colours = colours.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(colours, np.uint8)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA", "PA"):
        return image.convert("RGB")
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
