"""What a manifest must look like, whoever wrote it: checked before anything in it is used."""

from __future__ import annotations

import math
from typing import Any

from jaxcompress.annotations import Array, Json
from jaxcompress.knowledge.store.storage import DTYPES, Storage

__all__ = ["manifest_offences"]

KINDS = {
    "teacher": str,
    "dataset": str,
    "examples": int,
    "views": dict,
    "storage": dict,
    "about": dict,
    "records": dict,
    "versions": dict,
    "format": int,
}
LARGEST = 1 << 40
"""Examples times views, and bytes of a record: far beyond what anyone stores."""


def manifest_offences(content: dict[str, Array]) -> list[str]:
    """Name everything in which an object is no manifest.

    Example:
        >>> manifest_offences({"examples": "8"})[:2]
        ['teacher is missing', 'dataset is missing']
    """
    wrong = [_wrong_kind(content, name, kind) for name, kind in KINDS.items()]
    offences = [offence for offence in wrong if offence]
    offences += [f"{name} is unknown" for name in sorted(content.keys() - KINDS.keys())]
    if offences:
        return offences
    sizes = {"examples": content["examples"], "views/count": content["views"].get("count")}
    offences = [f"{name} is {x!r}" for name, x in sizes.items() if not _is_size(x)]
    if not offences and math.prod(sizes.values()) > LARGEST:
        offences.append(f"it claims {math.prod(sizes.values())} views of examples")
    offences += _storage_offences(content["storage"])
    offences += [
        f"records/{name} is {record!r}"
        for name, record in content["records"].items()
        if _is_odd(record)
    ]
    return offences or ([] if content["records"] else ["it has no records"])


def _wrong_kind(content: dict[str, Array], name: str, kind: type) -> str | None:
    if name not in content:
        return f"{name} is missing"
    # Not isinstance: True is an int.
    return None if type(content[name]) is kind else f"{name} is {content[name]!r:.40}"


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _storage_offences(storage: dict[str, Array]) -> list[str]:
    offences = [f"storage/{n} is {storage.get(n)!r}" for n in ("block", "chunk") if n in storage]
    if not all(_is_size(storage.get(name)) for name in ("block", "chunk")):
        return offences or ["storage has no block and chunk"]
    try:
        Storage(**storage)
    except (TypeError, ValueError) as error:
        return [f"storage is {storage} ({error})"]
    return []


def _is_odd(record: Json) -> bool:
    """Whether this is no record of positive sizes and a known dtype."""
    if not isinstance(record, dict) or record.keys() != {"shape", "dtype"}:
        return True
    shape = record["shape"]
    if not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        return True
    is_large = math.prod(shape) > LARGEST or len(shape) > 16
    return is_large or record["dtype"] not in (*DTYPES, "uint16", "uint32")
