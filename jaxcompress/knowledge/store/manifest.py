"""The manifest: what a store holds, of which teacher, data and views; JSON beside the arrays.

Its identity is written into every array as well, so that a lost manifest can be written again for
the same teacher, data and views, and for no others.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from jaxcompress.annotations import Array, Json
from jaxcompress.files import write_json
from jaxcompress.knowledge.fingerprints import fingerprint_json
from jaxcompress.knowledge.store.schema import manifest_offences

__all__ = [
    "FORMAT",
    "Manifest",
    "Record",
    "differences",
    "facts",
    "read_manifest",
    "write_manifest",
]

FORMAT = 1
FILE = "manifest.json"
PACKAGES = ("jaxcompress", "jax", "numpy", "tensorstore")


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored array: of each view of each example, `shape` numbers of `dtype`."""

    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        teacher: fingerprint of the teacher's variables.
        dataset: what `Source.dataset` says.
        examples: how many.
        views: what `Source.describe` says.
        storage: the fields of `Storage`.
        about: further facts that readers must agree on, e.g. the normalisation.
        records: `{name: Record}`.
        versions: of the packages that wrote it; for information, never compared.
        format: of the store itself.
    """

    teacher: str
    dataset: str
    examples: int
    views: dict[str, Array]
    storage: dict[str, Array]
    about: dict[str, Json]
    records: dict[str, Record]
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: _versions())
    format: int = FORMAT

    @property
    def identity(self) -> str:
        """Fingerprint of everything but the versions of packages."""
        return fingerprint_json(facts(self))


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a store.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if it is damaged, or of another format.
    """
    file = Path(folder) / FILE
    if not file.exists():
        raise FileNotFoundError(
            f"a store of fixed knowledge has a {FILE}, but {folder} has none; check the path, or "
            "call write with the teacher, data and views that it was made of"
        )
    try:
        content = json.loads(file.read_bytes())
        version = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from error
    if version != FORMAT:
        raise ValueError(
            f"this version of jaxcompress reads stores of format {FORMAT}, but {folder} has format "
            f"{version} (written by {content.get('versions')}); read it with that version, or "
            "write a new store in another folder"
        )
    offences = manifest_offences(content)
    if offences:
        raise _damaged(file, "; ".join(offences))
    records = {n: Record(tuple(r["shape"]), r["dtype"]) for n, r in content["records"].items()}
    return Manifest(**{**content, "records": records})


def _damaged(file: Path, error: Exception | str) -> ValueError:
    return ValueError(
        f"a manifest is a whole JSON object, but {file} is damaged ({error}); delete that file and "
        "call write with the same teacher, data and views: what is stored is kept, and only the "
        "manifest is written anew"
    )


def write_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write the manifest, whole or not at all.

    Raises:
        OSError: if the disk is full.
    """
    file = Path(folder) / FILE
    try:
        write_json(file, dataclasses.asdict(manifest))
    except OSError as error:
        raise OSError(
            error.errno,
            f"a store begins with its manifest, but writing {file} failed ({error.strerror}); make "
            "room and call write again",
        ) from error


def differences(
    stored: Mapping[str, Array], expected: Mapping[str, Array], prefix: str = ""
) -> list[str]:
    """Name every fact on which a stored manifest and an expected one differ.

    Example:
        >>> differences({"views": {"count": 2}}, {"views": {"count": 3}})
        ['views/count: stored 2, expected 3']
    """
    offences = []
    for name in sorted({*stored, *expected}):
        a, b = stored.get(name), expected.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            offences += differences(a, b, f"{prefix}{name}/")
        elif a != b:
            offences.append(f"{prefix}{name}: stored {a}, expected {b}")
    return offences


def facts(manifest: Manifest) -> dict[str, Json]:
    """Return what two manifests of the same store agree on, as JSON has it."""
    fields = dataclasses.asdict(manifest)
    del fields["versions"]
    return dict(json.loads(json.dumps(fields)))


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
