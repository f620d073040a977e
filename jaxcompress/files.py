"""Files that appear whole or not at all, whoever is killed, whatever else writes beside them.

A file is written under a name that nobody can guess, synced to the disk, and renamed. The umask
decides its mode; no link is followed; what could not be finished is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxcompress.annotations import Json

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_file", "file_digest", "locked", "sync_folder", "write_json"]

POLL_SECONDS = 0.05

# No link is followed, and no line end is translated.
AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


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
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | AS_IT_IS
    descriptor = os.open(partial, flags, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        # A folder that is gone must not hide the error that is on its way.
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # the system does not say which file a full disk is for
        raise
    sync_folder(path.parent)


def write_json(path: str | os.PathLike[str], value: Json) -> None:
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
    """Wait until a folder's list of names is on the disk, where folders can be opened.

    Example:
        >>> import tempfile
        >>> sync_folder(tempfile.mkdtemp())
    """
    if os.name == "nt" and os.path.isdir(folder):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it when the process ends, however.

    Windows does not: there the folder is held as long as its file `.lock` exists, and of a process
    that was killed the file must be deleted.

    Args:
        folder: must exist; a file `.lock` in it names the owner.
        wait: for another owner to finish, instead of raising.

    Raises:
        BlockingIOError: naming the owner, if somebody else holds the folder.
        OSError: if `.lock` is a link or a folder.

    Example:
        >>> import tempfile
        >>> with locked(tempfile.mkdtemp()):
        ...     pass
    """
    file = Path(folder) / ".lock"
    if file.is_symlink() or file.is_dir():
        raise OSError(
            errno.EINVAL, f"a lock is a file, but {file} is a link or a folder; delete it"
        )
    with _held_by_system(file, wait) if fcntl else _held_by_name(file, wait):
        yield


@contextlib.contextmanager
def _held_by_system(file: Path, wait: bool) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace")
            raise _held(file, owner, "wait until it ends, or choose another folder") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _owner(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _held_by_name(file: Path, wait: bool) -> Iterator[None]:
    """Hold a folder by making a file that must not be there."""
    while True:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o666)
            break
        except FileExistsError:
            if not wait:
                remedy = f"wait until it ends; if it has ended, delete {file}"
                owner = file.read_text(errors="replace")[:200] if file.exists() else ""
                raise _held(file, owner, remedy) from None
        except PermissionError:
            # Windows says so for a moment, too, while the owner deletes the file.
            if not wait:
                raise
        time.sleep(POLL_SECONDS)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(_owner())
        yield
    finally:
        file.unlink()


def _owner() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}".encode()


def _held(file: Path, owner: str, remedy: str) -> BlockingIOError:
    return BlockingIOError(
        errno.EWOULDBLOCK,
        f"a folder has one writer at a time, but {file.parent} is held by "
        f"{owner or 'another process'}; {remedy}",
    )
