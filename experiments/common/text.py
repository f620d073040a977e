"""Text that is on every machine with Python: the sources of its own library, as characters."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcompress.arguments import integer, require

__all__ = ["VOCABULARY", "Text", "library_sources", "windows"]

VOCABULARY = 128
"""Tokens are ASCII codes; anything else is 0."""

HELD_OUT = 10
"""One file of this many is held out."""


class Text(NamedTuple):
    """Characters to learn from, and others to judge by, of files that are not in the first.

    Attributes:
        train: `uint8[characters]`.
        test: `uint8[characters]`.
        digest: tells the texts of other versions of Python apart.
    """

    train: np.ndarray
    test: np.ndarray
    digest: str


def library_sources(folder: Path | None = None) -> Text:
    """Read the modules of Python's library, packages left out, in the order of their names.

    Args:
        folder: of `*.py` files; that of the library by default.

    Raises:
        FileNotFoundError: if the folder holds fewer than two files.

    Example:
        >>> text = library_sources()
        >>> len(text.train) > 4 * len(text.test) > 0
        True
    """
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    files = sorted(folder.glob("*.py"))
    if len(files) < 2:
        raise FileNotFoundError(
            f"text is read from two or more *.py files, but {folder} holds {len(files)}; name a "
            "folder that does"
        )
    codes = [_codes(file.read_bytes()) for file in files]
    test = np.concatenate(codes[::HELD_OUT])
    train = np.concatenate([c for number, c in enumerate(codes) if number % HELD_OUT])
    return Text(train, test, hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest()[:16])


def _codes(content: bytes) -> np.ndarray:
    codes = np.frombuffer(content, np.uint8)
    return np.where(codes < VOCABULARY, codes, 0).astype(np.uint8)


def windows(codes: np.ndarray, length: int, count: int | None = None) -> np.ndarray:
    """Cut characters into windows `int32[n, length]`, spread evenly if there are more than `count`.

    Example:
        >>> windows(np.arange(7, dtype=np.uint8), 2, 2).tolist()
        [[0, 1], [2, 3]]
    """
    require(length=integer(length), count=integer(count, optional=True))
    whole = len(codes) // length
    rows = codes[: whole * length].reshape(whole, length)
    chosen = slice(None) if count is None or count >= whole else np.arange(count) * whole // count
    return rows[chosen].astype(np.int32)
