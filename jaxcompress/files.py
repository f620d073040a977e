"""Files that appear whole or not at all, whoever is killed, whatever else writes beside them.

A file is written under a name that nobody can guess, synced to the disk, and renamed. The umask
decides its mode; no link is followed; what could not be finished is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["atomic_file", "file_digest", "locked", "sync_folder", "write_json"]


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a stream whose bytes become the file `path` when the block ends without an error.

    Args:
        path: the file, replaced if there is one; its folder must exist.

    Raises:
        OSError: if the disk is full or the folder is gone; the earlier file is untouched then.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_file(file) as stream:
        ...     _ = stream.write(b"whole")
        >>> file.read_text()
        'whole'
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(partial, flags, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        # A folder that is gone must not hide the error that is on its way.
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write strict JSON (no NaN) whole or not at all.

    Raises:
        TypeError: if the value is no JSON.
        ValueError: if it holds NaN or infinity.
        OSError: as for `atomic_file`.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "facts.json"
        >>> write_json(file, {"images": 8})
        >>> json.loads(file.read_text())
        {'images': 8}
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as stream:
        stream.write(text.encode())


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "empty"
        >>> file.touch()
        >>> file_digest(file)[:8]
        'e3b0c442'
    """
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until a folder's list of names is on the disk.

    Example:
        >>> import tempfile
        >>> sync_folder(tempfile.mkdtemp())
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it when the process ends, however.

    Args:
        folder: must exist; a file `.lock` in it names the owner.
        wait: for another owner to finish, instead of raising.

    Raises:
        BlockingIOError: naming the owner, if somebody else holds the folder.

    Example:
        >>> import tempfile
        >>> with locked(tempfile.mkdtemp()):
        ...     pass
    """
    import fcntl  # no such module on Windows, where the rest of this file runs

    file = Path(folder) / ".lock"
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(file, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            raise BlockingIOError(
                error.errno,
                f"a folder has one writer at a time, but {folder} is held by {owner}; wait until "
                "it ends, or choose another folder",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
