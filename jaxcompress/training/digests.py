"""Digests of a folder's files: whether each is, byte for byte, what was written.

The file of digests is written last. A folder without one was never finished, or is being removed.
What it says is believed only after its form was checked: anyone can sign a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxcompress.annotations import Array
from jaxcompress.files import file_digest, sync_folder, write_json

__all__ = ["FILE", "damaged", "facts", "write_digests"]

FILE = "digests.json"
LARGEST = 1 << 23
"""Bytes of a file of digests: some 40 000 leaves."""


def write_digests(folder: str | os.PathLike[str], **given: Any) -> None:
    """Finish a folder: its files are on the disk, and their digests beside them.

    Args:
        folder: every file in it, at any depth, is read.
        given: facts to keep with the digests, as JSON can hold.

    Raises:
        ValueError: if there are more facts than `facts` would read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "weights").write_text("1 2 3")
        >>> write_digests(folder, score=0.5)
        >>> facts(folder), damaged(folder)
        ({'score': 0.5}, [])
    """
    folder = Path(folder)
    for path in [folder, *folder.rglob("*")]:
        sync_folder(path)  # fsync takes files and folders alike
    sizes = {name: size for name, size in _sizes(folder).items() if name != FILE}
    value = {"facts": given, "files": {n: [s, file_digest(folder / n)] for n, s in sizes.items()}}
    if len(json.dumps(value, indent=2)) > LARGEST - 100:
        raise ValueError(
            f"what is kept with digests takes at most {LARGEST} bytes, but the facts of {folder} "
            "take more; save fewer, larger leaves"
        )
    write_json(folder / FILE, {**value, "digest": _own_digest(value)})


def damaged(folder: str | os.PathLike[str]) -> list[str]:
    """Return the files of a finished folder that were changed, removed or added since.

    Links and whatever else is no file count as added.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "weights").write_text("1 2 3")
        >>> write_digests(folder)
        >>> _ = (folder / "weights").write_text("1 2 4")
        >>> damaged(folder)
        ['weights']
    """
    value = _read(Path(folder) / FILE)
    if value is None:
        return [FILE]
    sizes, known = _sizes(Path(folder)), value["files"]
    del sizes[FILE]
    wrong = [n for n in {*sizes, *known} if n not in known or sizes.get(n) != known[n][0]]
    # Only what has the right size is worth reading.
    return sorted(wrong or [n for n in sizes if file_digest(Path(folder) / n) != known[n][1]])


def facts(folder: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the facts kept with the digests; none if the file of digests is damaged.

    Example:
        >>> facts("nowhere")
        {}
    """
    value = _read(Path(folder) / FILE)
    return {} if value is None else value["facts"]


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of everything below a folder that is no folder; -1 for what is no file."""
    sizes = {}
    for path in _entries(folder):
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        sizes[path.relative_to(folder).as_posix()] = status.st_size if is_file else -1
    return sizes


def _entries(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry))
        else:
            yield Path(entry)


def _read(file: Path) -> dict[str, Array] | None:
    """What the file of digests says, if it is itself as it was written."""
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        value = json.loads(file.read_bytes())
        digest = value.pop("digest")
        is_signed = digest == _own_digest(value)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return value if is_signed and _is_record(value) else None


def _is_record(value: dict[str, Array]) -> bool:
    if value.keys() != {"facts", "files"} or not all(isinstance(x, dict) for x in value.values()):
        return False
    return all(_is_file(entry) for entry in value["files"].values())


def _is_file(entry: Array) -> bool:
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    return type(entry[0]) is int and entry[0] >= 0 and isinstance(entry[1], str)


def _own_digest(value: dict[str, Array]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
