"""Variables from PyTorch state dicts: rename every tensor to a leaf path, reorder every kernel.

A rename function maps a torch name (`layer1.0.conv1.weight`) to a leaf path
(`params/stage1_block0/conv1/kernel`), or to None where it knows no path; everything else follows
from shapes. `torch_names` holds those of CNNs, `hugging_face_names` of transformers. Loading is
strict: every tensor and every leaf must find its counterpart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "Rename",
    "from_torch",
    "load_torch_weights",
]

Rename = Callable[[str], str | None]


def load_torch_weights(path: str | os.PathLike[str], variables_like: Any, rename: Rename) -> PyTree:
    """Read a state dict stored as safetensors into variables shaped like `variables_like`.

    See `from_torch` for the arguments and errors.

    Example:
        >>> import tempfile
        >>> from safetensors.numpy import save_file
        >>> path = tempfile.mkdtemp() + "/weights.safetensors"
        >>> save_file({"fc.weight": np.ones((2, 3), np.float32)}, path)
        >>> like = {"params": {"fc": {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.float32)}}}
        >>> variables = load_torch_weights(path, like, lambda name: "params/fc/kernel")
        >>> variables["params"]["fc"]["kernel"].shape
        (3, 2)
    """
    return from_torch(load_file(path), variables_like, rename)


def from_torch(
    state_dict: Mapping[str, np.ndarray],
    variables_like: Any,
    rename: Rename,
    *,
    output_first: bool = True,
    ignored: Sequence[str] = (),
) -> PyTree:
    """Turn a PyTorch state dict into variables shaped like `variables_like`.

    Kernels `[out, in, *spatial]` become `[*spatial, in, out]`; other tensors keep their axes. An
    axis that is several of its leaf's (heads x features) is split. A dense layer after a flatten
    of more than one pixel would need its inputs reordered as well (channels first becomes channels
    last) and is not handled.

    Args:
        state_dict: torch name to array; `num_batches_tracked` counters are ignored.
        variables_like: pytree of arrays or `jax.ShapeDtypeStruct`; gives shapes and dtypes.
        rename: torch name to leaf path, or None for a name without one.
        output_first: whether kernels are laid out so; otherwise they keep their axes.
        ignored: further names that are left out, as shell patterns.

    Raises:
        ValueError: if tensors or leaves lack a counterpart, share one, or differ in shape; all
            of them are listed.

    Example:
        >>> like = {"params": {"fc": {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.float32)}}}
        >>> state_dict = {"fc.weight": np.ones((2, 3), np.float32)}
        >>> variables = from_torch(state_dict, like, lambda name: "params/fc/kernel")
        >>> variables["params"]["fc"]["kernel"].shape
        (3, 2)
    """
    leaves, treedef = flatten_with_paths(variables_like)
    sources: dict[str, list[str]] = {path: [] for path in leaves}
    left_out = ("*num_batches_tracked", *ignored)
    problems = []
    for name, tensor in state_dict.items():
        if any(fnmatchcase(name, pattern) for pattern in left_out):
            continue
        path = rename(name)
        if path in leaves:
            sources[path].append(name)
        else:
            problems.append(_unexpected(name, tensor, path))
    axes = {path: (0, 1) if output_first and _is_kernel(path) else () for path in leaves}
    for path, names in sources.items():
        tensors = {name: state_dict[name] for name in names}
        problems += _mismatches(path, leaves[path], tensors, axes[path])
    if problems:
        raise ValueError(
            "every leaf needs exactly one torch tensor of its shape, but\n  "
            + "\n  ".join(problems)
            + "\nbuild the network with the configuration of the weights, or correct `rename`"
        )
    loaded = [
        jnp.asarray(
            _reordered(state_dict[name], axes[path]).reshape(leaves[path].shape), leaves[path].dtype
        )
        for path, (name,) in sources.items()
    ]
    return jax.tree.unflatten(treedef, loaded)


def _is_kernel(path: str) -> bool:
    return path.rsplit("/", 1)[-1] == "kernel"


def _reordered(tensor: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Bring the axes of output and input, if there are any, to the end."""
    return np.moveaxis(tensor, axes, range(-1, -1 - len(axes), -1))


def _splits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Tell whether `target` is `shape` with some axes split into several, none of them of one."""
    rest = list(target)
    for size in shape:
        factor = rest.pop(0) if rest else 0
        while factor < size and rest and rest[0] > 1:
            factor *= rest.pop(0)
        if factor != size:
            return False
    return not rest


def _unexpected(name: str, tensor: np.ndarray, path: str | None) -> str:
    fact = "`rename` gives it no path" if path is None else f"there is no leaf {path}"
    return f"unexpected: torch {name} {tensor.shape}: {fact}"


def _mismatches(
    path: str, leaf: Array, tensors: Mapping[str, np.ndarray], axes: tuple[int, ...]
) -> list[str]:
    """Say what keeps `tensors` from being the one tensor of the leaf at `path`."""
    if not tensors:
        return [f"missing: {path} {leaf.shape}: no torch tensor is renamed to it"]
    if len(tensors) > 1:
        return [f"ambiguous: {path} {leaf.shape}: torch {', '.join(tensors)} all become it"]
    ((name, tensor),) = tensors.items()
    shape = tensor.shape if tensor.ndim < len(axes) else _reordered(tensor, axes).shape
    if shape == leaf.shape or (tensor.ndim >= len(axes) and _splits(shape, leaf.shape)):
        return []
    return [f"misshapen: torch {name} {tensor.shape} becomes {shape}, but {path} is {leaf.shape}"]
