"""The files of stages: read with their schema checked, compared by the digest of what they hold."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.files import file_digest

__all__ = ["differences", "path_digest", "read_arrays", "read_object", "read_stage"]

TIMES = ("seconds", "device_hours", "cpu_seconds")


def path_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, or of all files of a folder and their names; None for neither.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a").touch()
        >>> path_digest(folder) == path_digest(folder / "a"), path_digest(folder / "b")
        (False, None)
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return None
    whole = hashlib.sha256()
    # Whoever holds a folder writes its name into `.lock`, which tells nothing of what lies there.
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    for file in sorted(files):
        whole.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return whole.hexdigest()


def differences(there: Mapping[str, Array], here: Mapping[str, Array]) -> list[str]:
    """Say on which entries two objects differ; one that is missing differs from one that is None.

    Example:
        >>> differences({"epochs": 2}, {"epochs": 3, "seed": None})
        ['epochs: 2 there, 3 here', 'seed: nothing there, None here']
    """
    names = sorted(n for n in {*there, *here} if _entry(there, n) != _entry(here, n))
    return [f"{n}: {there.get(n, 'nothing')} there, {here.get(n, 'nothing')} here" for n in names]


def _entry(value: Mapping[str, Array], name: str) -> tuple[bool, PyTree]:
    return name in value, value.get(name)


def read_object(file: Path, remedy: str) -> dict[str, Json]:
    """Read a JSON object.

    Args:
        file: must exist.
        remedy: what to do where it is damaged, for the error.

    Raises:
        ValueError: if the file is no whole JSON object.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "facts.json"
        >>> _ = file.write_text('{"images": 8}')
        >>> read_object(file, "delete it")
        {'images': 8}
    """
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error), remedy) from error
    if not isinstance(content, dict):
        raise _damaged(file, f"it holds {type(content).__name__}", remedy)
    return content


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file of `numpy.savez`, whose checksums are looked at.

    Raises:
        ValueError: if the file is damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "arrays.npz"
        >>> np.savez(file, widths=np.arange(3))
        >>> read_arrays(file)["widths"].tolist()
        [0, 1, 2]
    """
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"a file of arrays is whole, but {file} is damaged ({error}); delete it to make it anew"
        ) from error


def read_stage(file: Path) -> dict[str, Json]:
    """Read what a stage found; `{}` where it has not run.

    Raises:
        ValueError: if the file is no whole JSON object, or lacks what a stage writes.

    Example:
        >>> read_stage(Path("no such file"))
        {}
    """
    remedy = "delete it to do the stage again"
    if not file.exists():
        return {}
    facts = read_object(file, remedy)
    finished = facts.get("done", False)
    offences = [] if isinstance(finished, bool) else [f"done is {finished!r}"]
    needed = {name for name in TIMES if name in facts or finished}
    offences += [f"{n} is {facts.get(n)!r}" for n in sorted(needed) if not _is_time(facts.get(n))]
    digests = [name for name in ("files", "read") if finished and not _are_digests(facts.get(name))]
    offences += [f"{name} holds no digests" for name in digests]
    if offences:
        raise _damaged(file, "; ".join(offences), remedy)
    return facts


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def _are_digests(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())


def _damaged(file: Path, fact: str, remedy: str) -> ValueError:
    return ValueError(
        f"a stage's file is a whole JSON object, but {file} is damaged ({fact}); {remedy}"
    )
