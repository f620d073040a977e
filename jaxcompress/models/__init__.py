"""Reference Linen networks, by class or by name, as pure functions of their variables."""

from __future__ import annotations

from jaxcompress.models.decoder import Decoder
from jaxcompress.models.efficientnet import EfficientNetLite
from jaxcompress.models.encoder import Encoder
from jaxcompress.models.gpt2 import GPT2
from jaxcompress.models.mobilenet import MobileNetV2
from jaxcompress.models.nin import NetworkInNetwork
from jaxcompress.models.registry import (
    NETWORKS,
    build,
    evaluation_function,
    initialize,
    training_function,
)
from jaxcompress.models.resnet import ResNet
from jaxcompress.models.resnet_imagenet import ImageNetResNet
from jaxcompress.models.stacking import stack_layers, unstack_layers
from jaxcompress.models.students import AlexNet, LeNet
from jaxcompress.models.vgg import VGG
from jaxcompress.models.vgg_imagenet import ImageNetVGG
from jaxcompress.models.vit import VisionTransformer

__all__ = [
    "GPT2",
    "NETWORKS",
    "VGG",
    "AlexNet",
    "Decoder",
    "EfficientNetLite",
    "Encoder",
    "ImageNetResNet",
    "ImageNetVGG",
    "LeNet",
    "MobileNetV2",
    "NetworkInNetwork",
    "ResNet",
    "VisionTransformer",
    "build",
    "evaluation_function",
    "initialize",
    "stack_layers",
    "training_function",
    "unstack_layers",
]
