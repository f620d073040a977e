"""The arrays of a store: zarr 3 on TensorStore, one file per view and block of examples.

Every record is one array `[views, examples, ...]`, so the address of a record is (view, example)
and nothing else. A file appears whole or not at all, and each chunk in it carries a checksum.
TensorStore is imported only when a store is written or read.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxcompress.annotations import Array, Json
from jaxcompress.knowledge.store.manifest import Manifest, Record

__all__ = ["Block", "block_file", "blocks", "lacks_most", "open_arrays", "unwritten"]

ZSTD_LEVEL = 3


class Block(NamedTuple):
    """The examples `start` to `stop` (exclusive) of one view: what one file per record holds."""

    view: int
    start: int
    stop: int


def blocks(manifest: Manifest) -> list[Block]:
    """List all blocks of a store, view by view."""
    size, examples = manifest.storage["block"], manifest.examples
    return [
        Block(view, start, min(start + size, examples))
        for view in range(manifest.views["count"])
        for start in range(0, examples, size)
    ]


def array_folder(folder: str | os.PathLike[str], name: str) -> Path:
    """Return where a record's array lies: its name with dots for slashes."""
    return Path(folder) / "records" / name.replace("/", ".")


def block_file(folder: str | os.PathLike[str], manifest: Manifest, name: str, block: Block) -> Path:
    """Return the file that holds a block of one record."""
    chunk = block.start // manifest.storage["block"]
    zeros = "/0" * len(manifest.records[name].shape)
    return array_folder(folder, name) / f"c/{block.view}/{chunk}{zeros}"


def _count(manifest: Manifest) -> int:
    return -(-manifest.examples // manifest.storage["block"]) * int(manifest.views["count"])


def lacks_most(folder: str | os.PathLike[str], manifest: Manifest) -> bool:
    """Whether a store claims many more blocks than it has files, too many to list.

    Example:
        >>> views, storage = {"count": 1}, {"block": 1}
        >>> lacks_most("none", Manifest("", "", 1 << 40, views, storage, {}, {"a": Record((), "")}))
        True
    """
    there = max(len(_present(folder, name)) for name in manifest.records)
    return _count(manifest) > (1 << 20) + 2 * there


def unwritten(folder: str | os.PathLike[str], manifest: Manifest) -> list[Block]:
    """List the blocks of which a record's file is missing."""
    present = {name: _present(folder, name) for name in manifest.records}
    size = manifest.storage["block"]
    return [
        block
        for block in blocks(manifest)
        if not all((block.view, block.start // size) in written for written in present.values())
    ]


def _present(folder: str | os.PathLike[str], name: str) -> set[tuple[int, int]]:
    """Which (view, number of block) have a file; those being written have other names."""
    root = array_folder(folder, name) / "c"
    if not root.is_dir():
        return set()
    return {
        (int(view.name), int(chunk.name))
        for view in root.iterdir()
        if view.is_dir()
        for chunk in view.iterdir()
        if chunk.name.isdigit() and _has_file(chunk)
    }


def _has_file(path: Path) -> bool:
    """Whether a block's path, of as many folders as a record has axes, ends in a file."""
    while path.is_dir():
        path = path / "0"
    return path.is_file()


def open_arrays(
    folder: str | os.PathLike[str], manifest: Manifest, *, write: bool, cache_bytes: int = 0
) -> dict[str, Json]:
    """Open the array of every record, made where `write` is set and it does not exist.

    Raises:
        ValueError: if two records would share a folder, or an array belongs to another store.
        OSError: if an array cannot be made, e.g. because the disk is full, or is missing.
    """
    import tensorstore as ts  # heavy, and only this needs it

    _check_names(manifest.records)
    context = ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})
    arrays = {}
    for name, record in manifest.records.items():
        _check_identity(folder, manifest, name)
        spec = _spec(folder, manifest, name, record)
        opened = ts.open(spec, context=context, open=True, create=write, read=True, write=write)
        arrays[name] = _opened(folder, name, opened)
    return arrays


def _opened(folder: str | os.PathLike[str], name: str, opened: Any) -> Array:
    """Wait for an array, naming it where it cannot be opened."""
    try:
        return opened.result()
    except (ValueError, OSError) as error:
        raise OSError(
            errno.EIO,
            f"every record of a store is an array in its folder, but {array_folder(folder, name)} "
            f"cannot be opened ({error}); make room, or delete its zarr.json, and call write with "
            "the same teacher, data and views: what is stored is kept",
        ) from error


def _spec(
    folder: str | os.PathLike[str], manifest: Manifest, name: str, record: Record
) -> dict[str, Json]:
    size, chunk = (manifest.storage[name] for name in ("block", "chunk"))
    inner: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": ZSTD_LEVEL}},
        {"name": "crc32c"},
    ]
    sharding = {"chunk_shape": [1, chunk, *record.shape], "codecs": inner}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{array_folder(folder, name).absolute()}/"},
        # A block of zeros is written like any other, and a missing one is an error, not zeros.
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
        "metadata": {
            "shape": [manifest.views["count"], manifest.examples, *record.shape],
            "data_type": record.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [1, size, *record.shape]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {"identity": manifest.identity},
        },
    }


def _check_names(records: Mapping[str, Record]) -> None:
    folders = [name.replace("/", ".") for name in records]
    repeated = sorted(name for name in records if folders.count(name.replace("/", ".")) > 1)
    empty = sorted(name for name, record in records.items() if 0 in record.shape)
    wrong = sorted(name for name in records if name.strip("./") != name or not name)
    if repeated or wrong or empty:
        raise ValueError(
            "records have names of their own, that stay apart with dots for slashes, and at least "
            f"one number each, but these do not: {sorted({*repeated, *wrong, *empty})}; change "
            "the teacher's outputs"
        )


def _check_identity(folder: str | os.PathLike[str], manifest: Manifest, name: str) -> None:
    file = array_folder(folder, name) / "zarr.json"
    if not file.exists():
        return
    try:
        identity = json.loads(file.read_text())["attributes"]["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"an array is described by a whole JSON object, but {file} is damaged ({error}); "
            "delete that file and call write with the same teacher, data and views"
        ) from error
    if identity != manifest.identity:
        raise ValueError(
            f"a store holds the knowledge of one teacher, data set and view setting, but "
            f"{file.parent} was written for another (identity {identity[:12]}, not "
            f"{manifest.identity[:12]}); write to another folder"
        )
