"""The folder of an artifact: two files that savers replace and readers open, side by side.

The numbers go into a file named after their digest, which no earlier artifact refers to; then one
atomic rename of `structure.json` makes the folder the new artifact; then the file that the earlier
structure named is deleted, and those that killed savers left. A reader holds the data open from the
start, so that it is not lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.artifact.schema import DATA_NAME, DTYPES
from jaxcompress.artifact.structure import NAME, DataFile, Structure, parse, text_of
from jaxcompress.files import atomic_file, file_digest, locked

__all__ = ["Opened", "open_artifact", "write_artifact"]


class Opened(NamedTuple):
    """An artifact, held open.

    Attributes:
        structure: parsed and checked.
        data: stream of the file that the structure names.
        num_bytes: of both files.
    """

    structure: Structure
    data: BinaryIO
    num_bytes: int


@contextlib.contextmanager
def open_artifact(folder: Path) -> Iterator[Opened]:
    """Open the structure and the data that belongs to it, also while somebody saves here.

    Raises:
        FileNotFoundError: if there is no artifact, or half of one.
        ValueError: if the structure is damaged or of a newer format.
    """
    missing: str | None = None
    while True:
        structure, size = _read_structure(folder)
        file = folder / structure.file.name
        if file.is_file():
            with contextlib.suppress(FileNotFoundError), file.open("rb") as data:
                yield Opened(structure, data, size + os.fstat(data.fileno()).st_size)
                return
        # A saver replaced both files since: only what stays missing is missing.
        if structure.file.name == missing:
            raise FileNotFoundError(
                f"the structure names {file}, but it is missing; copy the artifact again or save "
                "it again"
            )
        missing = structure.file.name


def _read_structure(folder: Path) -> tuple[Structure, int]:
    file = folder / NAME
    if not file.is_file():
        raise FileNotFoundError(
            f"an artifact is a folder with a {NAME}, but there is no {file}; pass the folder that "
            "was given to `save`"
        )
    content = file.read_bytes()
    return parse(content.decode(errors="replace"), str(file)), len(content)


def write_artifact(
    folder: Path, arrays: Mapping[str, np.ndarray], structure_for: Callable[[DataFile], Structure]
) -> None:
    """Write both files, waiting for other savers; whoever kills this leaves the old or the new.

    Args:
        folder: made if needed.
        arrays: by tensor name, last axis fastest.
        structure_for: the structure with a given data file in it.
    """
    chunks = _safetensors(arrays)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    name = _data_name(digest.hexdigest())
    file = DataFile(name, sum(len(chunk) for chunk in chunks), digest.hexdigest())
    text = text_of(structure_for(file))
    # What `load` would refuse is not written.
    parse(text, str(folder / NAME))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=True):
        _remove_partial(folder)
        old = _named(folder)
        try:
            with atomic_file(folder / name) as stream:
                for chunk in chunks:
                    stream.write(chunk)
            with atomic_file(folder / NAME) as stream:
                stream.write(text.encode())
        finally:
            # A saver deletes what it or the artifact it replaced has written, and nothing else.
            now = _named(folder)
            for stale in {old, name} - {now, None}:
                (folder / str(stale)).unlink(missing_ok=True)
        _remove_orphans(folder, now)


def _named(folder: Path) -> str | None:
    """Return the data file that the artifact in `folder`, if any, refers to."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        name = json.loads((folder / NAME).read_bytes())["file"]["name"]
        return name if re.fullmatch(DATA_NAME, name) else None
    return None


def _remove_partial(folder: Path) -> None:
    """Remove what killed savers left unfinished; while the lock is held nobody else is at it."""
    form = re.compile(rf"\.({re.escape(NAME)}|{DATA_NAME})\.[0-9a-f]{{16}}\.partial")
    for entry in folder.iterdir():
        if form.fullmatch(entry.name):
            entry.unlink()


def _remove_orphans(folder: Path, now: str | None) -> None:
    """Remove data that killed savers left: its name is the digest of what is in it.

    A file of somebody else that is called like one has another digest, and stays.
    """
    for entry in folder.iterdir():
        is_data = re.fullmatch(DATA_NAME, entry.name) and entry.is_file() and not entry.is_symlink()
        if is_data and entry.name != now and entry.name == _data_name(file_digest(entry)):
            entry.unlink()


def _data_name(digest: str) -> str:
    return f"variables-{digest[:16]}.safetensors"


def _safetensors(arrays: Mapping[str, np.ndarray]) -> list[memoryview]:
    """Lay arrays out as a safetensors file, without copying them: its header, then each."""
    # Wide types first: every array is aligned when the file is mapped into memory.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    header: dict[str, object] = {}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        kind, shape = DTYPES[array.dtype.name], list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data: list[Array] = [array.reshape(-1).view(np.uint8) for _, array in ordered]
    return [memoryview(part) for part in (len(text).to_bytes(8, "little"), text, *data)]
