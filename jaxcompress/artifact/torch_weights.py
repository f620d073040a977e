"""Variables from PyTorch state dicts: rename every tensor to a leaf path, reorder every kernel.

A rename function maps a torch name (`layer1.0.conv1.weight`) to a leaf path
(`params/stage1_block0/conv1/kernel`), or to None where it knows no path; everything else follows
from shapes. Loading is strict: every tensor and every leaf must find its counterpart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxcompress.annotations import Array, PyTree
from jaxcompress.models.vgg import CONVOLUTIONS_PER_STAGE
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "Rename",
    "akamaster_resnet_name",
    "chengyangfu_vgg_name",
    "from_torch",
    "load_torch_weights",
    "torchvision_resnet_name",
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


def from_torch(state_dict: Mapping[str, np.ndarray], variables_like: Any, rename: Rename) -> PyTree:
    """Turn a PyTorch state dict into variables shaped like `variables_like`.

    Kernels `[out, in, *spatial]` become `[*spatial, in, out]`; other tensors keep their axes. A
    dense layer after a flatten of more than one pixel would need its inputs reordered as well
    (channels first becomes channels last) and is not handled.

    Args:
        state_dict: torch name to array; `num_batches_tracked` counters are ignored.
        variables_like: pytree of arrays or `jax.ShapeDtypeStruct`; gives shapes and dtypes.
        rename: torch name to leaf path, or None for a name without one.

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
    problems = []
    for name, tensor in state_dict.items():
        if name.endswith("num_batches_tracked"):
            continue
        path = rename(name)
        if path in leaves:
            sources[path].append(name)
        else:
            problems.append(_unexpected(name, tensor, path))
    for path, names in sources.items():
        problems += _mismatches(path, leaves[path], {name: state_dict[name] for name in names})
    if problems:
        raise ValueError(
            "every leaf needs exactly one torch tensor of its shape, but\n  "
            + "\n  ".join(problems)
            + "\nbuild the network with the configuration of the weights, or correct `rename`"
        )
    loaded = [
        jnp.asarray(_reordered(path, state_dict[names[0]]), leaves[path].dtype)
        for path, names in sources.items()
    ]
    return jax.tree.unflatten(treedef, loaded)


def _reordered(path: str, tensor: np.ndarray) -> np.ndarray:
    """Bring a kernel from `[out, in, *spatial]` to `[*spatial, in, out]`."""
    if path.rsplit("/", 1)[-1] != "kernel":
        return tensor
    return np.moveaxis(tensor, (0, 1), (-1, -2))


def _unexpected(name: str, tensor: np.ndarray, path: str | None) -> str:
    fact = "`rename` gives it no path" if path is None else f"there is no leaf {path}"
    return f"unexpected: torch {name} {tensor.shape}: {fact}"


def _mismatches(path: str, leaf: Array, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Say what keeps `tensors` from being the one tensor of the leaf at `path`."""
    if not tensors:
        return [f"missing: {path} {leaf.shape}: no torch tensor is renamed to it"]
    if len(tensors) > 1:
        return [f"ambiguous: {path} {leaf.shape}: torch {', '.join(tensors)} all become it"]
    ((name, tensor),) = tensors.items()
    is_kernel = path.rsplit("/", 1)[-1] == "kernel"
    shape = tensor.shape if is_kernel and tensor.ndim < 2 else _reordered(path, tensor).shape
    if shape == leaf.shape:
        return []
    return [f"misshapen: torch {name} {tensor.shape} becomes {shape}, but {path} is {leaf.shape}"]


def _leaf_path(module: str, field: str, is_batch_norm: bool) -> str | None:
    """Name the leaf that holds a torch module's `field`, e.g. `weight` or `running_mean`."""
    if is_batch_norm and field in ("running_mean", "running_var"):
        return f"batch_stats/{module}/{field.removeprefix('running_')}"
    if field == "bias":
        return f"params/{module}/bias"
    if field == "weight":
        return f"params/{module}/{'scale' if is_batch_norm else 'kernel'}"
    return None


def akamaster_resnet_name(torch_name: str) -> str | None:
    """Rename akamaster/pytorch_resnet_cifar10's tensors to `ResNet`'s leaf paths.

    A leading `module.`, left by PyTorch's data parallel wrapper, is dropped.

    Example:
        >>> akamaster_resnet_name("module.layer1.0.conv1.weight")
        'params/stage1_block0/conv1/kernel'
        >>> akamaster_resnet_name("bn1.running_var")
        'batch_stats/stem_bn/var'
    """
    return _residual_name(torch_name, shortcut="shortcut", classifier="linear")


def torchvision_resnet_name(torch_name: str) -> str | None:
    """Rename torchvision's ResNet-50, -101 and -152 tensors to `ImageNetResNet`'s leaf paths.

    Example:
        >>> torchvision_resnet_name("layer2.0.downsample.1.running_mean")
        'batch_stats/stage2_block0/shortcut_bn/mean'
        >>> torchvision_resnet_name("fc.weight")
        'params/classifier/kernel'
    """
    return _residual_name(torch_name, shortcut="downsample", classifier="fc")


def _residual_name(torch_name: str, shortcut: str, classifier: str) -> str | None:
    """Rename a tensor of a residual network; a block's convolutions and norms keep their names."""
    module, _, field = torch_name.removeprefix("module.").rpartition(".")
    block = re.fullmatch(rf"layer(\d+)\.(\d+)\.((conv|bn)[123]|{shortcut}\.[01])", module)
    outside = {"conv1": "stem_conv", "bn1": "stem_bn", classifier: "classifier"}
    shortcuts = {f"{shortcut}.0": "shortcut_conv", f"{shortcut}.1": "shortcut_bn"}
    if block:
        stage, index, layer = block.group(1, 2, 3)
        renamed = f"stage{stage}_block{index}/{shortcuts.get(layer, layer)}"
    elif module in outside:
        renamed = outside[module]
    else:
        return None
    return _leaf_path(renamed, field, is_batch_norm="bn" in renamed)


def chengyangfu_vgg_name(depth: int, batch_norm: bool = False) -> Rename:
    """Return the rename from chengyangfu/pytorch-vgg-cifar10's tensors to `VGG`'s leaf paths.

    Torch numbers the layers of its two sequences, relus and poolings included, so that a number
    means something only for a `depth` with or without `batch_norm`.

    Example:
        >>> rename = chengyangfu_vgg_name(depth=16)
        >>> rename("features.5.weight"), rename("classifier.6.bias")
        ('params/stage2_conv1/kernel', 'params/classifier/bias')
    """
    modules = {"classifier.1": "fc1", "classifier.4": "fc2", "classifier.6": "classifier"}
    number = 0
    for stage, convolutions in enumerate(CONVOLUTIONS_PER_STAGE[depth], start=1):
        for index in range(1, convolutions + 1):
            modules[f"features.{number}"] = f"stage{stage}_conv{index}"
            if batch_norm:
                modules[f"features.{number + 1}"] = f"stage{stage}_bn{index}"
            number += 3 if batch_norm else 2
        number += 1

    def rename(torch_name: str) -> str | None:
        module, _, field = torch_name.removeprefix("module.").rpartition(".")
        # The classifier of a wrapped VGG is `module.classifier`, its features `features.module`.
        renamed = modules.get(module.replace("features.module.", "features."))
        return renamed and _leaf_path(renamed, field, is_batch_norm="_bn" in renamed)

    return rename
