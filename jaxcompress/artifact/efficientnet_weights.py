"""Published weights of EfficientNet-Lite0: their names, and the order their numbers lie in."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from jaxcompress.annotations import PyTree
from jaxcompress.artifact.torch_weights import from_torch

__all__ = ["load_efficientnet_lite"]

NORMS = {"_bn0": "expand_bn", "_bn1": "depthwise_bn", "_bn2": "project_bn"}
OUTSIDE = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "head_conv",
    "_bn1": "head_bn",
    "_fc": "classifier",
}
STATISTICS = {"running_mean": "batch_stats/{}/mean", "running_var": "batch_stats/{}/var"}


def load_efficientnet_lite(path: str | os.PathLike[str], variables_like: Any) -> PyTree:
    """Read a state dict of EfficientNet-Lite0 (EfficientNet-PyTorch's names) from safetensors.

    Kernels lie in the file as TensorFlow has them, `[height, width, in, out]`, under the shape that
    PyTorch gives them, `[out, in, height, width]`; they are brought into order first.

    Args:
        path: of the file.
        variables_like: of `models.build("efficientnet_lite0")`; arrays or their shapes.

    Raises:
        ValueError: if tensors and leaves do not correspond; all are listed.

    Example:
        >>> import tempfile
        >>> from safetensors.numpy import save_file
        >>> path = tempfile.mkdtemp() + "/weights.safetensors"
        >>> save_file({"_fc.bias": np.ones(2, np.float32)}, path)
        >>> like = {"params": {"classifier": {"bias": np.zeros(2)}}}
        >>> load_efficientnet_lite(path, like)["params"]["classifier"]["bias"].tolist()
        [1.0, 1.0]
    """
    stored = load_file(path)
    tensors = {name: _in_order(name, tensor) for name, tensor in stored.items()}
    return from_torch(tensors, variables_like, _leaf_path)


def _leaf_path(name: str) -> str | None:
    """Rename a tensor to a leaf's path.

    Example:
        >>> _leaf_path("_blocks.1._bn0.running_mean"), _leaf_path("_fc.weight")
        ('batch_stats/block1/expand_bn/mean', 'params/classifier/kernel')
    """
    module, _, tensor = name.rpartition(".")
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
    if block:
        number, layer = block.groups()
        module = f"block{number}/{NORMS.get(layer, layer.removeprefix('_'))}"
    else:
        module = OUTSIDE.get(module, module)
    weight = "scale" if "bn" in module else "kernel"
    fields = {**STATISTICS, "bias": "params/{}/bias", "weight": "params/{}/" + weight}
    return fields[tensor].format(module) if tensor in fields else None


def _in_order(name: str, tensor: np.ndarray) -> np.ndarray:
    """Bring a kernel into the order that its shape in the file says.

    Example:
        >>> _in_order("_fc.weight", np.arange(6).reshape(2, 3)).tolist()
        [[0, 2, 4], [1, 3, 5]]
    """
    if tensor.ndim < 2:
        return tensor
    # A depthwise kernel is [height, width, channels, 1], and its shape [channels, 1, ...].
    first = (0, 1) if "depthwise" in name else (1, 0)
    order = (*range(2, tensor.ndim), *first)
    stored = tensor.reshape([tensor.shape[axis] for axis in order])
    return stored.transpose(np.argsort(order))
