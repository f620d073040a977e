"""`save`: write a compressed network so that a kill at any moment leaves the old one or the new.

The numbers go into a file named after their digest, which no earlier artifact refers to; then one
atomic rename of `structure.json` makes the folder the new artifact; then old files are deleted.
Every file is on the disk (fsync) before anything refers to it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import DictKey, GetAttrKey
from safetensors.numpy import save_file

from jaxcompress.artifact.encoding import Encoding
from jaxcompress.artifact.fit import check_result, check_zeros, original_shapes
from jaxcompress.artifact.leaves import describe, encoded, host_arrays
from jaxcompress.artifact.structure import NAME, DataFile, Structure, plain, text_of
from jaxcompress.graph import flatten_with_paths
from jaxcompress.models import build
from jaxcompress.transforms import Compression, from_spec

__all__ = ["save"]


def save(
    path: str | os.PathLike[str],
    compression: Compression,
    variables: Any,
    *,
    network: tuple[str, Mapping[str, Any]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    encoding: Encoding | None = None,
) -> None:
    """Write a compressed network into the folder `path`: safetensors and JSON, no pickle.

    An artifact that is there already is replaced at once: whoever kills this leaves the old one or
    the new one. One process, which can address all arrays, may write to a folder at a time. Weakly
    typed leaves become strong.

    Args:
        path: the folder, made if needed.
        compression: how the network was made smaller; `chain()` for one that was not.
        variables: the compressed ones, `compression.variables(variables)`.
        network: name and configuration for `jaxcompress.models.build`, e.g.
            `("resnet20", {"width": 8})`; `load` then needs no function.
        metadata: notes of your own, plain JSON; `inspect` returns them.
        encoding: how leaves become bytes, e.g. `Encoding("int8")`: sparse, rounded, compressed; as
            they are by default. What is loaded is the same within the encoding's stated error.

    Raises:
        TypeError: if a leaf is no array or of a dtype that safetensors lacks.
        ValueError: if the variables are not the compression's result, the network is unknown, or
            something does not survive JSON. Nothing has been written then.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxcompress.artifact import load
        >>> from jaxcompress.transforms import chain
        >>> folder = os.path.join(tempfile.mkdtemp(), "line")
        >>> save(folder, chain(), {"slope": jnp.float32(2.0)}, metadata={"by": "hand"})
        >>> function, variables = load(folder, lambda variables, x: variables["slope"] * x)
        >>> function(variables, 3.0).item()
        6.0
    """
    spec = plain(dict(compression.spec), "the compression's spec")
    leaves, _ = flatten_with_paths(variables)
    described = describe(leaves)
    original = original_shapes(spec, {p: leaf.shape for p, leaf in described.items()})
    check_result(from_spec(spec), described, original)
    check_zeros(spec, leaves)
    named = None if network is None else _network(*network)
    notes = plain(dict(metadata or {}), "metadata")

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, described = encoded(host_arrays(leaves), described, encoding)
    file = _write_data(folder, tensors)
    structure = Structure(
        spec, described, original, _is_nested(variables), file, named, notes, _library()
    )
    _write_structure(folder, text_of(structure))
    for stale in folder.glob("variables-*.safetensors"):
        if stale.name != file.name:
            stale.unlink()


def _network(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    build(name, **config)
    return {"name": name, "config": plain(dict(config), f"the configuration of {name}")}


def _is_nested(variables: Any) -> bool:
    """Tell whether leaf paths alone rebuild the tree, as nested dicts."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(variables)
    # Paths leave out the last key of NNX, so it does no harm.
    value = GetAttrKey("value")
    paths = [keys[:-1] if keys[1:] and keys[-1] == value else keys for keys, _ in pairs]
    return all(
        isinstance(key, DictKey) and isinstance(key.key, str) and "/" not in key.key
        for keys in paths
        for key in keys
    )


def _library() -> str:
    try:
        return importlib.metadata.version("jaxcompress")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _write_data(folder: Path, arrays: dict[str, np.ndarray]) -> DataFile:
    temporary = folder / "variables.tmp"
    save_file(arrays, temporary)
    _sync(temporary)
    with temporary.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name = f"variables-{digest[:16]}.safetensors"
    file = DataFile(name, temporary.stat().st_size, digest)
    os.replace(temporary, folder / name)
    _sync(folder)
    return file


def _write_structure(folder: Path, text: str) -> None:
    temporary = folder / (NAME + ".tmp")
    temporary.write_text(text)
    _sync(temporary)
    os.replace(temporary, folder / NAME)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
