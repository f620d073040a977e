"""Weights of transformers by the names that Hugging Face's files give them, in and out.

`ARCHITECTURES` says, as data, which tensor is which leaf; a tensor without a leaf and a leaf
without a tensor are refused by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from safetensors.numpy import load_file

from jaxcompress.annotations import Array, PyTree
from jaxcompress.artifact.hugging_face_names import ARCHITECTURES, Architecture
from jaxcompress.artifact.torch_weights import from_torch
from jaxcompress.models import initialize, stack_layers, unstack_layers
from jaxcompress.models.stacking import STACK
from jaxcompress.paths import flatten_with_paths

__all__ = ["load_hugging_face", "to_hugging_face"]

Tensors = Mapping[str, np.ndarray]
HEADS_IN = "/out/kernel"
"""Kernels that read heads x features; all others read one axis."""


def load_hugging_face(
    weights: str | os.PathLike[str] | Tensors, module: nn.Module, *, ignored: Sequence[str] = ()
) -> PyTree:
    """Read published weights of a transformer into the variables of `module`.

    Args:
        weights: a safetensors file, a folder of them, or tensors by name. A folder's `config.json`,
            if there is one, is compared with the module: tensors do not tell heads from features.
        module: an `Encoder`, `Decoder` or `GPT2`, unrolled or scanned.
        ignored: names of tensors that are left out, as shell patterns, e.g. `cls.*`, the heads of
            BERT's pre-training; buffers that are no weights are left out anyway.

    Raises:
        TypeError: if the module is no such network.
        ValueError: if tensors or leaves lack a counterpart, share one, or differ in shape, or the
            configuration is another one; all of them are listed.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.models import GPT2
        >>> module = GPT2(vocabulary=5, width=4, depth=2, heads=2, positions=3)
        >>> variables = initialize(module, jax.random.key(0), jnp.ones([1, 3], int))
        >>> tensors = to_hugging_face(variables, module)
        >>> tensors["h.1.attn.c_attn.weight"].shape
        (4, 12)
        >>> scanned = load_hugging_face(tensors, module.clone(scan=True))
        >>> scanned["params"]["layers"]["query_key_value"]["kernel"].shape
        (2, 4, 3, 2, 2)
    """
    architecture = _architecture(module)
    if not isinstance(weights, Mapping):
        _check_config(Path(weights), module, architecture)
        weights = _read(Path(weights))
    unrolled: Any = module.clone(scan=False)
    tokens = jax.ShapeDtypeStruct((1, 1), np.int32)
    like = jax.eval_shape(lambda: initialize(unrolled, jax.random.key(0), tokens))
    leaves, _ = flatten_with_paths(like)
    variables = from_torch(
        weights,
        like,
        architecture.path_of,
        output_first=architecture.output_first,
        ignored=(*architecture.ignored, *_copies(weights, architecture, set(leaves)), *ignored),
    )
    return stack_layers(variables) if getattr(module, "scan", False) else variables


def _architecture(module: nn.Module) -> Architecture:
    if type(module) not in ARCHITECTURES:
        names = ", ".join(kind.__name__ for kind in ARCHITECTURES)
        raise TypeError(
            f"names of tensors are known for {names}, but the module is a {type(module).__name__}; "
            "write a rename for `from_torch`"
        )
    return ARCHITECTURES[type(module)]


def _read(path: Path) -> dict[str, np.ndarray]:
    """Read one file, or all of a folder."""
    files = [path] if path.suffix == ".safetensors" else sorted(path.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"a folder of weights holds .safetensors files, but {path} none")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _check_config(path: Path, module: nn.Module, architecture: Architecture) -> None:
    """Compare the configuration beside the weights with the module's fields."""
    file = path / "config.json"
    if not file.exists():
        return
    config = json.loads(file.read_text())
    config |= config.get("rope_parameters") or {}
    fields = {name: getattr(module, field) for name, field in architecture.config.items()}
    wrong = [
        f"{name} is {config[name]}, of the module {value}"
        for name, value in {**fields, **architecture.constants}.items()
        if config.get(name) not in (None, value)
    ]
    if wrong:
        raise ValueError(
            f"the module must have the configuration of {file}, but {'; '.join(wrong)}; build it so"
        )


def _copies(weights: Tensors, architecture: Architecture, paths: set[str]) -> list[str]:
    """Name the tensors that repeat another one, where the network has one leaf for both."""
    return [
        copy
        for copy, name in architecture.copies.items()
        if architecture.path_of(copy) not in paths
        and copy in weights
        and any(
            np.array_equal(weights[copy], weights[other])
            for other in weights
            if architecture.plain(other) == architecture.plain(name)
        )
    ]


def to_hugging_face(variables: PyTree, module: nn.Module) -> dict[str, np.ndarray]:
    """Lay out the variables of `module`, whole or with fewer channels, as Hugging Face does.

    Axes of heads and of their features become one; stacked layers are numbered apart.

    Raises:
        TypeError: if the module is no such network.
        ValueError: if a leaf is none of the module's.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.models import Decoder
        >>> module = Decoder(vocabulary=5, width=4, depth=1, heads=2, kv_heads=1, mlp_width=3)
        >>> variables = initialize(module, jax.random.key(0), jnp.ones([1, 2], int))
        >>> tensors = to_hugging_face(variables, module)
        >>> tensors["model.layers.0.self_attn.k_proj.weight"].shape
        (2, 4)
    """
    architecture = _architecture(module)
    if STACK in variables["params"]:
        variables = unstack_layers(variables)
    leaves, _ = flatten_with_paths(variables)
    named = {path: architecture.name_of(path) for path in leaves}
    unknown = [path for path, name in named.items() if name is None]
    if unknown:
        raise ValueError(
            f"every leaf needs the name of a tensor, but {', '.join(unknown)} have none; "
            f"give variables of a {type(module).__name__}, without factors or masks"
        )
    return {
        str(name): _laid_out(np.asarray(leaves[path]), path, architecture)
        for path, name in named.items()
    }


def _laid_out(leaf: Array, path: str, architecture: Architecture) -> np.ndarray:
    """Join the axes of a kernel's inputs and those of its outputs, in the order of the files."""
    if not path.endswith("/kernel"):
        return leaf if path.endswith("/embedding") else leaf.reshape(-1)
    inputs = 2 if path.endswith(HEADS_IN) else 1
    kernel = leaf.reshape(prod(leaf.shape[:inputs]), -1)
    return np.ascontiguousarray(kernel.T if architecture.output_first else kernel)
