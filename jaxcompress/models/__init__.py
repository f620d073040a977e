"""Reference Linen networks, by class or by name, as pure functions of their variables."""

from __future__ import annotations

from jaxcompress.models.mobilenet import MobileNetV2
from jaxcompress.models.registry import NETWORKS, build, evaluation, initialize, training
from jaxcompress.models.resnet import ResNet
from jaxcompress.models.vgg import VGG
from jaxcompress.models.vit import VisionTransformer

__all__ = [
    "NETWORKS",
    "VGG",
    "MobileNetV2",
    "ResNet",
    "VisionTransformer",
    "build",
    "evaluation",
    "initialize",
    "training",
]
