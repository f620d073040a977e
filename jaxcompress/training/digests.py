"""Digests of a folder's files: whether each is, byte for byte, what was written.

The file of digests is written last. A folder without one was never finished, or is being removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jaxcompress.files import file_digest, sync_folder, write_json

__all__ = ["FILE", "damaged", "facts", "write_digests"]

FILE = "digests.json"


def write_digests(folder: str | os.PathLike[str], **given: Any) -> None:
    """Finish a folder: its files are on the disk, and their digests beside them.

    Args:
        folder: every file in it, at any depth, is read.
        given: facts to keep with the digests, as JSON can hold.

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
    value = {"facts": given, "files": _digests(folder)}
    write_json(folder / FILE, {**value, "digest": _own_digest(value)})


def damaged(folder: str | os.PathLike[str]) -> list[str]:
    """Return the files of a finished folder that were changed, removed or added since.

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
    found, known = _digests(Path(folder)), value["files"]
    return sorted(name for name in {*found, *known} if found.get(name) != known.get(name))


def facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts kept with the digests; none if the file of digests is damaged.

    Example:
        >>> facts("nowhere")
        {}
    """
    value = _read(Path(folder) / FILE)
    return {} if value is None else value["facts"]


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _read(file: Path) -> dict[str, Any] | None:
    """What the file of digests says, if it is itself as it was written."""
    try:
        value = json.loads(file.read_bytes())
        digest = value.pop("digest")
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return value if digest == _own_digest(value) else None


def _own_digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
