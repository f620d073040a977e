"""`save`: write a compressed network so that a kill at any moment leaves the old one or the new."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.tree_util import DictKey, GetAttrKey

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.artifact.encoded_leaves import encoded
from jaxcompress.artifact.encoding import Encoding
from jaxcompress.artifact.fit import (
    Shapes,
    check_result,
    check_scales,
    check_zeros,
    code_paths,
    original_shapes,
)
from jaxcompress.artifact.folder import write_artifact
from jaxcompress.artifact.leaves import describe, host_arrays
from jaxcompress.artifact.network import named_network
from jaxcompress.artifact.program import program_entry, program_tensor
from jaxcompress.artifact.spec import from_spec
from jaxcompress.artifact.structure import DataFile, Structure, plain
from jaxcompress.compression.record import Compression
from jaxcompress.finite import non_finite
from jaxcompress.paths import flatten_with_paths, path_string
from jaxcompress.processes import by_first, gathered, is_first

__all__ = ["save"]


def save(
    path: str | os.PathLike[str],
    compression: Compression,
    variables: PyTree,
    *,
    network: tuple[str, Mapping[str, Any]] | None = None,
    metadata: Mapping[str, Array] | None = None,
    encoding: Encoding | None = None,
    program: bytes | None = None,
) -> None:
    """Write a compressed network into the folder `path`: safetensors and JSON, no pickle.

    An artifact that is there already is replaced at once: whoever kills this leaves the old one or
    the new one. Of several savers of one folder, threads or processes, each waits for the one
    before it; readers beside them get the old one or the new one. Weakly typed leaves become
    strong.

    Under `jax.distributed` all processes call it together. Arrays of which each holds a part are
    gathered leaf by leaf; the first process alone writes, and the others go on, or raise, with it.

    Variables with NaN or infinity are a legal artifact and come back bit by bit; a warning names
    their leaves, since every method refuses them. An encoding that rounds them refuses them too.

    Args:
        path: the folder, made if needed.
        compression: how the network was made smaller; `chain()` for one that was not.
        variables: the compressed ones, `compression.variables(variables)`.
        network: name and configuration for `jaxcompress.models.build`, e.g.
            `("resnet20", {"width": 8})`; `load` then needs no function.
        metadata: notes of your own, plain JSON; `inspect` returns them.
        encoding: how leaves become bytes, e.g. `Encoding("int8")`: sparse, rounded, compressed; as
            they are by default. What is loaded is the same within the encoding's stated error.
        program: `export_stablehlo(function, variables, ...)` of the compressed function; `load`
            then needs neither a function nor its code.

    Raises:
        TypeError: if a leaf is no array or of a dtype that safetensors lacks.
        ValueError: if the variables are not the compression's result, the network is unknown,
            the program takes other variables, or something does not survive JSON. Nothing has
            been written then.
        RuntimeError: if the first of several processes failed; that one says how.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxcompress.artifact import load
        >>> from jaxcompress.compression import chain
        >>> folder = os.path.join(tempfile.mkdtemp(), "line")
        >>> save(folder, chain(), {"slope": jnp.float32(2.0)}, metadata={"by": "hand"})
        >>> function, variables = load(folder, lambda variables, x: variables["slope"] * x)
        >>> function(variables, 3.0).item()
        6.0
    """
    leaves, structure = flatten_with_paths(variables)
    # One at a time: only the first process keeps what the others have parts of.
    held = {path: _held(leaf) for path, leaf in leaves.items()}
    by_first(
        f"saving the artifact {Path(path).name}",
        lambda: _write(
            Path(path),
            compression,
            held,
            jax.tree.unflatten(structure, held.values()),
            network,
            metadata,
            encoding,
            program,
        ),
    )


def _held(leaf: Array) -> Array:
    whole = gathered(leaf)
    return whole if is_first() else None


def _write(
    path: Path,
    compression: Compression,
    leaves: Mapping[str, Array],
    variables: PyTree,
    network: tuple[str, Mapping[str, Any]] | None,
    metadata: Mapping[str, Array] | None,
    encoding: Encoding | None,
    program: bytes | None,
) -> None:
    """Check everything and write it; the leaves are those of `variables`, held by this process."""
    spec = plain(dict(compression.spec), "the compression's spec")
    described = describe(leaves)
    original = original_shapes(spec, {p: leaf.shape for p, leaf in described.items()})
    check_result(from_spec(spec), described, original)
    check_zeros(spec, leaves)
    named = None if network is None else _network(network, original)
    notes = plain(dict(metadata or {}), "metadata")

    carried = None if program is None else program_entry(program, described)
    exact = code_paths(spec)
    check_scales(spec, leaves)
    tensors, described = encoded(host_arrays(leaves), described, encoding, exact)
    _warn_of_non_finite(leaves)
    tensors |= program_tensor(program)
    is_nested = _is_nested(variables)
    empty = _empty_paths(variables) if is_nested else ()

    def structure_for(file: DataFile) -> Structure:
        return Structure(
            spec, described, original, is_nested, file, named, notes, _library(), empty, carried
        )

    write_artifact(path, tensors, structure_for)


def _warn_of_non_finite(leaves: Mapping[str, Array]) -> None:
    if paths := non_finite(leaves):
        warnings.warn(
            f"variables with NaN or infinity are saved, in {', '.join(paths)}; what is pruned, "
            "factorized or taught needs finite ones",
            stacklevel=6,
        )


def _network(network: tuple[str, Mapping[str, Json]], original: Shapes | None) -> dict[str, Json]:
    if isinstance(network, str):
        raise TypeError(
            f"network must be a name and its configuration, but is {network!r}; say "
            f"({network!r}, {{}}), or with what its name leaves open, {{'num_classes': 10}}"
        )
    name, config = network
    fields = plain(dict(config), f"the configuration of {name}")
    named_network(name, fields, original)
    return {"name": name, "config": fields}


def _is_nested(variables: PyTree) -> bool:
    """Tell whether the paths of leaves and of empty dicts rebuild the tree, as nested dicts."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(variables, is_leaf=_is_empty)
    # Paths leave out the last key of NNX, so it does no harm.
    value = GetAttrKey("value")
    paths = [keys[:-1] if keys[1:] and keys[-1] == value else keys for keys, _ in pairs]
    # A dict whose only key is the empty string has the path of a leaf alone.
    is_named = all(
        isinstance(key, DictKey) and isinstance(key.key, str) and key.key and "/" not in key.key
        for keys in paths
        for key in keys
    )
    return is_named and all(isinstance(node, Mapping) for _, node in pairs if _is_empty(node))


def _is_empty(node: Any) -> bool:
    """Tell whether a node has nothing below it: an empty dict, list or tuple, or None."""
    structure: PyTree = jax.tree.structure(node)
    return structure.num_leaves == 0 and structure.num_nodes == 1


def _empty_paths(variables: PyTree) -> tuple[str, ...]:
    pairs, _ = jax.tree_util.tree_flatten_with_path(variables, is_leaf=_is_empty)
    return tuple(path_string(keys) for keys, node in pairs if _is_empty(node))


def _library() -> str:
    try:
        return importlib.metadata.version("jaxcompress")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
