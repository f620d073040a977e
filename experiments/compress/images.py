"""A folder of images, one folder inside for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.common.image_folders import ENDINGS, classes_of, files_of
from experiments.compress.splits import Splits

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["folder_of_images"]

TRANSPARENT = ("RGBA", "LA", "PA")
LEAST = 4
SHOWN = 3


class Picture(NamedTuple):
    """One image.

    Attributes:
        pixels: `uint8[height, width, channels]`.
        label: number of its class.
        change: how it was made like the others, if it was.
    """

    pixels: np.ndarray
    label: int
    change: str | None


def folder_of_images(folder: Path, size: int | None) -> Splits:
    """Read all images, `[size, size, 3]`, or `[size, size, 1]` where all are grey.

    Classes are numbered in order of their folders' names, or of the lines of `classes.txt` if there
    is one. The folders `train` and `test` (or `val`) may stand between.

    Args:
        folder: where they are.
        size: height and width, to which the shorter side is brought before the middle is cut out;
            None for the commonest size.

    Raises:
        ValueError: if there are no classes, or fewer than half of the files are images.
    """
    parts = {name: folder / name for name in ("train", "test", "val") if (folder / name).is_dir()}
    if "train" not in parts or len(parts) < 2:
        arrays, notes = _read(folder, classes_of(folder, folder), size)
        return Splits(arrays, None, notes)
    test = parts.get("test", parts.get("val", folder))
    classes = classes_of(folder, parts["train"])
    train, notes = _read(parts["train"], classes, size)
    height = train["image"].shape[1]
    held, more = _read(test, classes, height)
    return Splits(train, _as_channels(held, train["image"].shape[-1]), (*notes, *more))


def _as_channels(arrays: dict[str, np.ndarray], channels: int) -> dict[str, np.ndarray]:
    """Show test images in as many channels as the training images have."""
    images = arrays["image"]
    if images.shape[-1] != channels:
        images = images.repeat(3, -1) if channels == 3 else images.mean(-1, keepdims=True)
    return {**arrays, "image": images.astype(np.uint8)}


def _read(
    folder: Path, classes: Sequence[str], size: int | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Read the images of all classes, and say what was skipped or changed."""
    files, other = files_of(folder, classes)
    skipped: list[str] = []
    pictures: list[Picture] = []
    size = size or _commonest(files)
    for label, file in files:
        picture = _picture(file, label, size)
        if isinstance(picture, str):
            skipped.append(picture)
        else:
            pictures.append(picture)
    _check(folder, files, pictures, skipped)
    notes = _notes(skipped, f"{len(skipped)} of {len(files)} files skipped")
    changes = Counter(picture.change for picture in pictures if picture.change)
    notes += [f"{count} images {change}" for change, count in sorted(changes.items())]
    notes += [f"{other} files are called otherwise than {', '.join(ENDINGS)}"] if other else []
    seen = {picture.label for picture in pictures}
    if not (folder / "classes.txt").is_file():
        empty = [name for number, name in enumerate(classes) if number not in seen]
        notes += _notes(empty, f"{len(empty)} classes have no images, but keep their numbers")
    images = np.stack([picture.pixels for picture in pictures])
    if (images == images[..., :1]).all():
        images = images[..., :1]
    labels = np.array([picture.label for picture in pictures], np.int32)
    return {"image": images, "label": labels}, tuple(notes)


def _commonest(files: Sequence[tuple[int, Path]]) -> int:
    """Return the shorter side that most images have."""
    from PIL import Image as images

    sides: Counter[int] = Counter()
    for _, file in files:
        try:
            with images.open(file) as image:
                sides[min(image.size)] += 1
        except (OSError, SyntaxError, ValueError):
            continue
    return next((side for side, _ in sides.most_common() if side >= LEAST), LEAST)


def _picture(file: Path, label: int, size: int) -> Picture | str:
    """Return an image, or why it is none."""
    from PIL import Image as images

    try:
        with images.open(file) as image:
            image.load()
            if min(image.size) < LEAST:
                return f"{file.name}: {image.size[0]} x {image.size[1]} pixels"
            change = None
            if image.mode not in ("RGB", "L"):
                change = f"of mode {image.mode} became RGB"
            if image.mode in TRANSPARENT:
                change = "lost their transparency, on white"
            return Picture(_fitted(_opaque(image), size), label, change)
    except (OSError, SyntaxError, ValueError, images.DecompressionBombError) as error:
        return f"{file.name}: {error}"


def _opaque(image: Image) -> Image:
    """Return an image in red, green and blue, what is transparent on white."""
    from PIL import Image as images

    if image.mode not in TRANSPARENT:
        return image.convert("RGB")
    over = image.convert("RGBA")
    return images.alpha_composite(images.new("RGBA", over.size, "white"), over).convert("RGB")


def _fitted(image: Image, size: int) -> np.ndarray:
    """Bring the shorter side to a size and cut the middle out."""
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(image, (size, size)), np.uint8)


def _check(
    folder: Path, files: Sequence[object], pictures: Sequence[Picture], skipped: Sequence[str]
) -> None:
    if not pictures or len(skipped) > len(pictures):
        raise ValueError(
            f"data: most files of a folder of images are PNG or JPEG, but of {len(files)} in "
            f"{folder} {len(pictures)} could be read; {'; '.join(skipped[:SHOWN])}"
        )


def _notes(names: Sequence[str], text: str) -> list[str]:
    """Say a count, and the first few names."""
    if not names:
        return []
    return [f"{text}: {'; '.join(names[:SHOWN])}{' and so on' if len(names) > SHOWN else ''}"]
