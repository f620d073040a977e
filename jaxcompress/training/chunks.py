"""How Orbax laid arrays out: that no chunk unpacks to more than its array, before any is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from jaxcompress.annotations import Array

__all__ = ["oversized"]

ARRAY = b"zarr.json"
LARGEST = 1 << 20
LEAST = 1024  # a PRNG key has more numbers than its shape says


def oversized(folder: Path, sizes: list[int]) -> list[str]:
    """Name the arrays of a step that claim more than they should.

    Args:
        folder: of the step.
        sizes: how many elements each leaf has.
    """
    limit = max(*sizes, LEAST)
    try:
        claimed = {name: _largest(text) for name, text in _descriptions(folder / "state")}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, OSError) as error:
        return [f"{folder / 'state'} ({str(error)[:100]})"]
    return sorted(name for name, size in claimed.items() if size > limit)


def _descriptions(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the description of every array of a state."""
    import tensorstore as ts  # heavy, and only who restores needs it

    base = {"driver": "file", "path": f"{folder}/"}
    for spec in ({"driver": "ocdbt", "base": base}, base):
        store = ts.KvStore.open(spec).result()
        for key in store.list().result():
            if key.rpartition(b"/")[2] in (ARRAY, b".zarray"):
                yield key.decode(errors="replace"), store.read(key).result().value


def _largest(text: bytes) -> int:
    """Return the most elements that anything in the description of an array speaks of."""
    if len(text) > LARGEST:
        raise ValueError("a description of an array is too long")
    return max(_products(json.loads(text)))


def _products(node: Array) -> Iterator[int]:
    """Yield the product of every shape, at any depth."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for name, entry in entries:
        if name in ("shape", "chunk_shape", "chunks"):
            yield math.prod(int(size) for size in entry)
        elif isinstance(entry, dict | list):
            yield from _products(entry)
