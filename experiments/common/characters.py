"""Python's own library as sequences of characters: pieces of whole lines, padded."""

from __future__ import annotations

import sysconfig
from operator import itemgetter
from pathlib import Path

import jax
import numpy as np

from jaxcompress.annotations import PyTree
from jaxcompress.knowledge import pad_sequences

__all__ = ["VOCABULARY", "first", "pieces", "texts"]

# Tab, newline and the printable ASCII characters; all others are one token.
CHARACTERS = ["\t", "\n", *map(chr, range(32, 127))]
VOCABULARY = len(CHARACTERS) + 1


def pieces(files: list[Path], length: int) -> list[np.ndarray]:
    """Cut files into pieces of whole lines of at most so many characters, longer lines cut."""
    numbers = {character: number for number, character in enumerate(CHARACTERS)}
    cut: list[str] = []
    for file in files:
        piece = ""
        for line in file.read_text(errors="replace").splitlines(keepends=True):
            if len(piece) + len(line) > length and piece:
                cut.append(piece)
                piece = ""
            piece += line[:length]
        cut.append(piece)
    return [np.array([numbers.get(c, VOCABULARY - 1) for c in text], np.int32) for text in cut]


def texts(length: int) -> tuple[PyTree, PyTree]:
    """Return pieces of at most so many characters, in random order: to learn from, and held out."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    parts = [file for number, file in enumerate(files) if number % 8], files[::8]
    generator, padded = np.random.default_rng(0), []
    for part in parts:
        data = pad_sequences(pieces(part, length), vocabulary=VOCABULARY)
        order = generator.permutation(len(data["mask"]))
        padded.append(jax.tree.map(itemgetter(order), data))
    return padded[0], padded[1]


def first(data: PyTree, count: int) -> PyTree:
    """Return the first pieces."""
    return jax.tree.map(itemgetter(slice(count)), data)
