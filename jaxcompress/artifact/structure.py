"""`structure.json`: everything about an artifact but the numbers, protected by a digest of itself.

The file names the one data file that belongs to it, so that replacing this one file replaces the
whole artifact at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from jaxcompress.annotations import Array, Json
from jaxcompress.artifact.schema import problems

__all__ = [
    "FORMAT",
    "NAME",
    "DataFile",
    "Leaf",
    "Structure",
    "parse",
    "plain",
    "text_of",
]

FORMAT = 3
"""The newest format version that this library reads; it writes the oldest that holds the content.

2 has empty dicts, 3 a program.
"""

NAME = "structure.json"


class Leaf(NamedTuple):
    """What is known of a stored leaf without its numbers.

    Attributes:
        shape: of the leaf; of keys, not of their key data.
        dtype: name of the dtype, e.g. `bfloat16` or `key<fry>`.
        key_impl: name of the random number generator of typed keys, None for other leaves.
        nonzero: how many of the stored values are not zero; None where that was not counted.
        stored: how the numbers became bytes, see `jaxcompress.artifact.encoding`; None: as they
            are.
    """

    shape: tuple[int, ...]
    dtype: str
    key_impl: str | None = None
    nonzero: int | None = None
    stored: Mapping[str, Array] | None = None


class DataFile(NamedTuple):
    """The safetensors file of an artifact.

    Attributes:
        name: in the artifact's folder.
        size: in bytes.
        sha256: hexadecimal digest of its content.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Structure:
    """The content of `structure.json`.

    Attributes:
        spec: of the compression.
        leaves: the stored leaves by path, in the order of the saved tree.
        original_shapes: `{path: shape}` before the compression; None where its kind does not tell.
        nested: whether the saved tree was nested dicts with string keys, so that paths alone
            rebuild it.
        file: where the numbers lie.
        network: `{"name": ..., "config": {...}}` of a shipped network, or None.
        metadata: the user's own notes.
        library: version of jaxcompress that wrote the artifact.
        empty: paths of the empty dicts in nested dicts.
        program: `{"size": bytes, "platforms": [...]}` of a program that computes the network, or
            None.
    """

    spec: Mapping[str, Json]
    leaves: Mapping[str, Leaf]
    original_shapes: Mapping[str, tuple[int, ...]] | None
    nested: bool
    file: DataFile
    network: Mapping[str, Array] | None = None
    metadata: Mapping[str, Array] = field(default_factory=dict)
    library: str = "unknown"
    empty: tuple[str, ...] = ()
    program: Mapping[str, Array] | None = None


def plain(value: Any, what: str) -> Json:
    """Return `value` as it comes back from JSON, which must be equal to it.

    Raises:
        ValueError: if JSON cannot hold it, or changes it.

    Example:
        >>> plain({"width": [4, 8]}, "the metadata")
        {'width': [4, 8]}
    """
    remedy = "use str, int, float, bool, None, lists and dicts with string keys only"
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be plain JSON, but {error}; {remedy}") from error
    if copy != value:
        raise ValueError(f"{what} must survive JSON, but {value!r} becomes {copy!r}; {remedy}")
    return copy


def text_of(structure: Structure) -> str:
    """Write a structure as JSON, with its digest.

    Example:
        >>> file = DataFile(f"variables-{'0' * 16}.safetensors", 0, "0" * 64)
        >>> spec = {"kind": "chain", "steps": []}
        >>> one = Structure(spec, {"a": Leaf((2,), "int8")}, None, True, file)
        >>> parse(text_of(one), "structure.json") == one
        True
    """
    content = asdict(structure)
    content["leaves"] = {path: leaf._asdict() for path, leaf in structure.leaves.items()}
    content["file"] = structure.file._asdict()
    # Earlier versions read what holds nothing new.
    new = {name: content.pop(name) for name in ("empty", "program") if not content[name]}
    version = 3 if "program" not in new else 2 if "empty" not in new else 1
    content = {"format": version, **content}
    # One entry per line: indented lists of kept indices would take thousands.
    entries = {**content, "sha256": _digest(content)}.items()
    return "{\n" + ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in entries) + "\n}\n"


def parse(text: str, name: str) -> Structure:
    """Read what `text_of` wrote; `name` is the file's, for errors.

    Raises:
        ValueError: if the text is truncated, was changed, is of a newer format, or says what no
            artifact can be; all such places are named.
    """
    try:
        content = json.loads(text)
        version = content.pop("format")
        stated = content.pop("sha256", None)
        digest = _digest({"format": version, **content})
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{name} must be the JSON object that `save` wrote, but it is truncated or something "
            f"else ({error!r:.200}); copy the artifact again or save it again"
        ) from error
    if type(version) is int and version > FORMAT:
        raise ValueError(
            f"{name} has format {version}, but this version of jaxcompress reads formats up to "
            f"{FORMAT}; update jaxcompress"
        )
    if stated != digest:
        raise ValueError(
            f"{name} must be as `save` wrote it, but its sha256 does not match its content: it was "
            "changed; copy the artifact again or save it again"
        )
    offences = problems(content)
    if type(version) is not int or version < 1:
        offences.insert(0, f"format: {version!r:.40}")
    if offences:
        raise ValueError(
            f"{name} must describe an artifact, but {_shortened(offences)}; save the artifact "
            "again, and take it only from whom you trust"
        )
    leaves = {
        path: Leaf(**{**leaf, "shape": tuple(leaf["shape"])})
        for path, leaf in content.pop("leaves").items()
    }
    shapes = content.pop("original_shapes")
    original = shapes and {path: tuple(shape) for path, shape in shapes.items()}
    file = DataFile(**content.pop("file"))
    empty = tuple(content.pop("empty", ()))
    return Structure(leaves=leaves, original_shapes=original, file=file, empty=empty, **content)


def _shortened(offences: list[str]) -> str:
    more = f"; and {len(offences) - 20} more" if len(offences) > 20 else ""
    return "; ".join(offences[:20]) + more


def _digest(content: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
