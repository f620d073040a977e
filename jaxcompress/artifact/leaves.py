"""The numbers of an artifact: leaves of variables to and from safetensors.

Random keys are stored as their key data, an array with further axes; everything else as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jax.sharding import Sharding

from jaxcompress.annotations import Array, PyTree
from jaxcompress.artifact.encoding import decode, part_names
from jaxcompress.artifact.schema import DTYPES
from jaxcompress.artifact.structure import DataFile, Leaf
from jaxcompress.graph.internals import is_key

__all__ = ["describe", "host_arrays", "read_leaves", "structs", "tensor_names"]


def structs(tree: PyTree) -> PyTree:
    """Return the tree with the shape and dtype that JAX sees in place of each leaf.

    Example:
        >>> structs({"a": np.ones(2)})["a"].dtype.name
        'float32'
    """
    return jax.eval_shape(lambda same: same, tree)


def describe(leaves: Mapping[str, Array]) -> dict[str, Leaf]:
    """Describe arrays by path, refusing at once all that an artifact cannot hold.

    Raises:
        TypeError: if a leaf is no array, or of a dtype that safetensors lacks.

    Example:
        >>> describe({"a": jnp.ones(2), "b": jax.random.key(0)})["b"][:3]
        ((), 'key<fry>', 'threefry2x32')
    """
    wrong = [f"{p}: {type(x).__name__}" for p, x in leaves.items() if not _is_array(x)]
    if wrong:
        raise TypeError(
            f"every leaf of the saved variables must be an array with values, but {wrong} are not; "
            "save what `compression.variables` returned for arrays"
        )
    described = {path: _describe(leaf) for path, leaf in leaves.items()}
    unknown = [
        f"{path}: {leaf.dtype}"
        for path, leaf in described.items()
        if leaf.key_impl is None and leaf.dtype not in DTYPES
    ]
    if unknown:
        raise TypeError(
            f"an artifact holds the dtypes {', '.join(DTYPES)} and random keys, but {unknown} are "
            "none of them; convert these leaves"
        )
    return described


def _is_array(leaf: Array) -> bool:
    is_traced = isinstance(leaf, jax.core.Tracer)
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float) and not is_traced


def _describe(leaf: Array) -> Leaf:
    aval = structs(leaf)
    impl = str(jax.random.key_impl(leaf)) if is_key(aval.dtype) else None
    return Leaf(aval.shape, str(aval.dtype), impl)


def host_arrays(leaves: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Copy leaves to the host as safetensors wants them: key data for keys, last axis fastest."""
    data = {
        path: jax.random.key_data(leaf) if is_key(getattr(leaf, "dtype", None)) else leaf
        for path, leaf in leaves.items()
    }
    arrays = jax.device_get({path: jax.device_put(leaf) for path, leaf in data.items()})
    return {path: np.asarray(array, order="C") for path, array in arrays.items()}


def read_leaves(
    data: BinaryIO,
    place: Path,
    file: DataFile,
    expected: Mapping[str, Leaf],
    layouts: Mapping[str, Sharding] = MappingProxyType({}),
) -> dict[str, jax.Array]:
    """Read the leaves, after checking the data against its size, digest and description.

    Args:
        data: the open data file.
        place: its path, for errors.
        file: what the structure says of it.
        expected: the leaves by path.
        layouts: where leaves are put; those that are not named go to the default device.

    Raises:
        ValueError: if it is truncated, was changed, holds other leaves than `expected`, or needs
            64-bit types that are switched off.
    """
    content = _checked_bytes(data, place, file)
    try:
        tensors = dict(safetensors.deserialize(content))
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{place} must be a safetensors file, but {error}; save the artifact again"
        ) from error
    owners = {name: leaf for path, leaf in expected.items() for name in tensor_names(path, leaf)}
    problems = [f"{name}: missing" for name in owners if name not in tensors]
    problems += [f"{name}: unexpected" for name in tensors if name not in owners]
    problems += [
        f"{name}: {tensors[name]['dtype']} {tensors[name]['shape']} instead of {leaf}"
        for name, leaf in owners.items()
        if name in tensors and not _fits(leaf, tensors[name])
    ]
    if problems:
        raise ValueError(
            f"{place} must hold the leaves that the structure lists, but "
            f"{'; '.join(problems)}; copy the artifact again or save it again"
        )
    _check_x64(expected)
    return {path: _array(path, leaf, tensors, layouts.get(path)) for path, leaf in expected.items()}


def tensor_names(path: str, leaf: Leaf) -> list[str]:
    """Name the tensors that hold a leaf."""
    if leaf.stored is None:
        return [path]
    return [f"{path}:{name}" for name in part_names(leaf.stored)]


def _checked_bytes(data: BinaryIO, place: Path, file: DataFile) -> bytes:
    remedy = "copy the artifact again or save it again"
    size = os.fstat(data.fileno()).st_size
    if size != file.size:
        how = "truncated" if size < file.size else "longer"
        raise ValueError(f"{place} must have {file.size} bytes, but {size}: it is {how}; {remedy}")
    content = data.read(file.size)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{place} must have the recorded sha256, but it was changed; {remedy}")
    return content


def _fits(leaf: Leaf, tensor: Mapping[str, Array]) -> bool:
    shape = tuple(tensor["shape"])
    if leaf.stored is not None:
        return tensor["dtype"] == "U8" and len(shape) == 1
    if leaf.key_impl is not None:
        return tensor["dtype"] == "U32" and shape == _key_data_shape(leaf)
    return tensor["dtype"] == DTYPES.get(leaf.dtype) and shape == leaf.shape


def _key_data_shape(leaf: Leaf) -> tuple[int, ...] | None:
    """Return the shape of the data of keys; None where there are no such keys."""
    try:
        key = jax.eval_shape(lambda: jax.random.key(0, impl=leaf.key_impl))
    except (ValueError, TypeError):
        return None
    data = jax.eval_shape(jax.random.key_data, key)
    return (*leaf.shape, *data.shape) if str(key.dtype) == leaf.dtype else None


def _check_x64(expected: Mapping[str, Leaf]) -> None:
    """Refuse what JAX would silently turn into 32 bits."""
    wide = [
        f"{path}: {leaf.dtype}"
        for path, leaf in expected.items()
        if leaf.key_impl is None
        and jax.dtypes.canonicalize_dtype(leaf.dtype) != jnp.dtype(leaf.dtype)
    ]
    if wide:
        raise ValueError(
            f"leaves keep their dtype, but 64-bit types are switched off and {wide} need them; "
            'call jax.config.update("jax_enable_x64", True) first'
        )


def _array(
    path: str, leaf: Leaf, tensors: Mapping[str, Array], layout: Sharding | None
) -> jax.Array:
    if leaf.stored is not None:
        parts = {name: tensors[f"{path}:{name}"]["data"] for name in part_names(leaf.stored)}
        try:
            host = decode(leaf.stored, parts, leaf.shape, leaf.dtype)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; save the artifact again") from error
    else:
        tensor = tensors[path]
        dtype = jnp.dtype("uint32" if leaf.key_impl else leaf.dtype)
        host = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    if leaf.key_impl:
        key = jax.random.wrap_key_data(jnp.asarray(host), impl=leaf.key_impl)
        return key if layout is None else jax.device_put(key, layout)
    count = int(np.count_nonzero(host))
    if leaf.nonzero not in (None, count):
        raise ValueError(
            f"{path}: {count} values are not zero, but the structure says {leaf.nonzero}; save the "
            "artifact again"
        )
    return jax.device_put(host, layout)  # jnp.asarray compiles a program for every shape
