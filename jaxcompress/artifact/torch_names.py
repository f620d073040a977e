"""What published PyTorch networks call their tensors, as renames for `from_torch`."""

from __future__ import annotations

import re

from jaxcompress.artifact.torch_weights import Rename
from jaxcompress.models.vgg import CONVOLUTIONS_PER_STAGE

__all__ = ["akamaster_resnet_name", "chengyangfu_vgg_name", "torchvision_resnet_name"]


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
