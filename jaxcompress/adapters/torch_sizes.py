"""The sizes that PyTorch's own layers declare, set to those of their tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jaxcompress.adapters.torch_tensors import Module
from jaxcompress.annotations import Array

__all__ = ["fit_sizes", "reads_groups_off_inputs", "stored_sizes"]


def fit_sizes(made: Module, module: Module, whole_groups: bool) -> None:
    """Let the layers of a copy declare what their tensors hold.

    Args:
        made: the copy, with smaller tensors.
        module: the original.
        whole_groups: whether GroupNorm has lost whole groups, or else lanes of every group.
    """
    import torch

    before = dict(module.named_modules())
    for name, layer in made.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, torch.Tensor):
            continue
        shape = tuple(weight.shape)
        if isinstance(layer, torch.nn.Linear):
            layer.out_features, layer.in_features = shape
        elif isinstance(layer, torch.nn.modules.conv._ConvNd):
            _fit_convolution(layer, shape)
        elif isinstance(layer, torch.nn.LayerNorm | torch.nn.RMSNorm):
            layer.normalized_shape = shape
        elif isinstance(layer, torch.nn.GroupNorm):
            _fit_groups(layer, before[name], shape[0], whole_groups)
        elif isinstance(layer, torch.nn.modules.batchnorm._NormBase):
            layer.num_features = shape[0]
        elif isinstance(layer, torch.nn.Embedding | torch.nn.EmbeddingBag):
            layer.num_embeddings, layer.embedding_dim = shape
        elif type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):
            layer.nx, layer.nf = shape  # of the library transformers: a transposed Linear


def _fit_convolution(layer: Module, shape: tuple[int, ...]) -> None:
    first, second = shape[:2]
    if layer.transposed:
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        layer.in_channels, layer.out_channels = second * layer.groups, first


def _fit_groups(layer: Module, before: Module, channels: int, whole_groups: bool) -> None:
    size = before.num_channels // before.num_groups
    divides = channels % size == 0
    layer.num_groups = channels // size if whole_groups and divides else before.num_groups
    layer.num_channels = channels


@contextlib.contextmanager
def reads_groups_off_inputs(made: Module) -> Iterator[None]:
    """Let every grouped convolution, when it is called, set its groups by what it is given.

    A kernel `[out, in / groups, ...]` does not say how many groups are left; the input does.
    """
    import torch

    def set_groups(layer: Module, inputs: tuple[Array, ...]) -> None:
        channels, kernel = inputs[0].shape[1], layer.weight.shape
        inside = kernel[0] // layer.groups if layer.transposed else kernel[1]
        if channels % inside == 0:
            layer.groups = channels // inside
            _fit_convolution(layer, tuple(kernel))

    hooks = [
        layer.register_forward_pre_hook(set_groups, prepend=True)
        for layer in made.modules()
        if isinstance(layer, torch.nn.modules.conv._ConvNd) and layer.groups > 1
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def stored_sizes(made: Module, module: Module) -> str:
    """Name attributes that hold an old size of a tensor that has become smaller.

    Those of PyTorch's own single layers were set, and are left out.
    """
    old, lost = dict(module.named_parameters()), set()
    for name, tensor in made.named_parameters():
        lost |= {size for size in old[name].shape if size not in tensor.shape}
    places = [
        f"{name}.{attribute}={value}".lstrip(".")
        for name, part in made.named_modules()
        for attribute, value in vars(part).items()
        if not type(part).__module__.startswith("torch.nn.modules") or hasattr(part, "num_heads")
        if type(value) is int and value in lost and value > 1
    ]
    return ", ".join(places[:8])
