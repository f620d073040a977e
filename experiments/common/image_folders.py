"""Folders of images, one folder inside for each class: which classes and files there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["ENDINGS", "classes_of", "files_of"]

ENDINGS = (".png", ".jpg", ".jpeg")
SHOWN = 3


def classes_of(root: Path, folder: Path) -> list[str]:
    """Name the classes in the order of their numbers.

    That of their folders' names, or of the lines of `classes.txt` if there is one.

    Args:
        root: where `classes.txt` may lie.
        folder: where the folders of the classes lie.

    Raises:
        ValueError: if there are no classes, or some that the list lacks.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    listed = root / "classes.txt"
    if listed.is_file():
        named = listed.read_text().split()
        missing = [name for name in there if name not in named]
        if missing:
            raise ValueError(
                f"data: {listed} lists all classes, but lacks {missing[:SHOWN]}; add them, in the "
                "order of the model's outputs"
            )
        return named
    if len(there) < 2:
        raise ValueError(
            f"data: a folder of images holds one folder for each class, but {folder} holds "
            f"{there}; put the images of each class into a folder of its name"
        )
    return there


def files_of(folder: Path, classes: Sequence[str]) -> tuple[list[tuple[int, Path]], int]:
    """Return the images with their labels, and how many other files there are."""
    files = [
        (number, file)
        for number, name in enumerate(classes)
        for file in sorted((folder / name).rglob("*"))
        if file.is_file()
    ]
    images = [(number, file) for number, file in files if file.suffix.lower() in ENDINGS]
    return images, len(files) - len(images)
