"""A folder of small JPEGs by class, whose colour tells the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["write_jpegs"]


def write_jpegs(folder: Path, classes: int, each: int, sizes: tuple[int, int] = (40, 30)) -> Path:
    """Write `each` images of every class, not all of one size; return the folder."""
    random = np.random.default_rng(0)
    for label in range(classes):
        inside = folder / f"class{label}"
        inside.mkdir(parents=True)
        for number in range(each):
            width, height = sizes[0] + number % 3, sizes[1] + number % 2
            pixels = random.integers(0, 120, (height, width, 3), np.uint8)
            pixels[..., label % 3] += 100
            Image.fromarray(pixels).save(inside / f"{number}.jpg", quality=95)
    return folder
