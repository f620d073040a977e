"""Reference networks by name, and the pure functions the rest of the library works on.

`build` gives a Linen module; `initialize` its variables; `evaluation_function` and
`training_function` turn the module into plain functions of those variables, which is all that
tracing and training need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.models.decoder import Decoder
from jaxcompress.models.efficientnet import EfficientNetLite
from jaxcompress.models.encoder import Encoder
from jaxcompress.models.gpt2 import GPT2
from jaxcompress.models.mobilenet import MobileNetV2
from jaxcompress.models.nin import NetworkInNetwork
from jaxcompress.models.resnet import ResNet
from jaxcompress.models.resnet_imagenet import ImageNetResNet
from jaxcompress.models.students import AlexNet, LeNet
from jaxcompress.models.vgg import VGG
from jaxcompress.models.vgg_imagenet import ImageNetVGG
from jaxcompress.models.vit import VisionTransformer

__all__ = [
    "NETWORKS",
    "Network",
    "TrainingApply",
    "build",
    "evaluation_function",
    "initialize",
    "training_function",
]

Variables = dict[str, Any]


class Network(NamedTuple):
    """A named network: its module class and the fields that the name decides.

    Attributes:
        module: Linen module class, a dataclass of its configuration.
        fixed: fields that belong to the name and cannot be configured.
        inputs: one example of what it is usually given, abstractly.

    Example:
        >>> NETWORKS["resnet20"].fixed, NETWORKS["gpt2"].inputs
        ({'depth': 20}, ShapeDtypeStruct(shape=(1, 128), dtype=int32))
    """

    module: type[nn.Module]
    fixed: Mapping[str, Array]
    inputs: PyTree = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


_IMAGENET = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
_TOKENS = jax.ShapeDtypeStruct((1, 128), jnp.int32)
_MINILM_L6 = {"width": 384, "depth": 6, "heads": 12, "mlp_width": 1536}
_BERT_BASE = {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072}
_LLAMA_7B = {"width": 4096, "depth": 32, "heads": 32, "kv_heads": 32, "mlp_width": 11008}

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "resnet8": Network(ResNet, {"depth": 8}),
        "resnet14": Network(ResNet, {"depth": 14}),
        "resnet20": Network(ResNet, {"depth": 20}),
        "resnet32": Network(ResNet, {"depth": 32}),
        "resnet44": Network(ResNet, {"depth": 44}),
        "resnet50": Network(ImageNetResNet, {"depth": 50}, _IMAGENET),
        "resnet56": Network(ResNet, {"depth": 56}),
        "resnet110": Network(ResNet, {"depth": 110}),
        "vgg16": Network(VGG, {"depth": 16, "batch_norm": False}),
        "vgg16_bn": Network(VGG, {"depth": 16, "batch_norm": True}),
        "vgg16_imagenet": Network(ImageNetVGG, {"depth": 16, "batch_norm": False}, _IMAGENET),
        "vgg19": Network(VGG, {"depth": 19, "batch_norm": False}),
        "vgg19_bn": Network(VGG, {"depth": 19, "batch_norm": True}),
        "nin": Network(NetworkInNetwork, {}),
        "snn_1k": Network(LeNet, {"hidden": (1000,)}),
        "snn_10k": Network(LeNet, {"hidden": (10_000,)}),
        "cnn_1k": Network(LeNet, {"hidden": (1000, 84)}),
        "cnn_10k": Network(LeNet, {"hidden": (10_000, 84)}),
        "alexnet_cifar": Network(AlexNet, {}),
        "mobilenet_v2": Network(MobileNetV2, {}),
        "efficientnet_lite0": Network(EfficientNetLite, {}, _IMAGENET),
        "vit_tiny": Network(VisionTransformer, {}),
        "minilm_l6": Network(Encoder, _MINILM_L6, _TOKENS),
        "bert_base": Network(Encoder, _BERT_BASE, _TOKENS),
        "gpt2": Network(GPT2, {"width": 768, "depth": 12, "heads": 12}, _TOKENS),
        "llama_7b": Network(Decoder, _LLAMA_7B, _TOKENS),
    }
)


class TrainingApply(Protocol):
    """Type of what `training_function` returns."""

    def __call__(
        self, variables: Variables, images: PyTree, key: jax.Array | None = None
    ) -> tuple[jax.Array, Variables]:
        """Return logits `[batch, classes]` and the new non-parameter collections."""
        ...


def build(name: str, **config: Json) -> nn.Module:
    """Make the network called `name`; `config` sets the fields that the name leaves open.

    Raises:
        ValueError: if the name or a field is unknown; the choices are listed.

    Example:
        >>> build("resnet20", num_classes=100).depth
        20
        >>> build("resnet20", classes=100)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: resnet20 takes no field 'classes'; take from axis_name, dtype, ...
    """
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}; take one of {', '.join(NETWORKS)}")
    module, fixed, _ = NETWORKS[name]
    fields = {field.name for field in dataclasses.fields(module)}  # type: ignore[arg-type]
    choices = sorted(fields - {"name", "parent"} - set(fixed))
    unknown = sorted(set(config) - set(choices))
    if unknown:
        refused = ", ".join(map(repr, unknown))
        raise ValueError(f"{name} takes no field {refused}; take from {', '.join(choices)}")
    return module(**fixed, **config)


def initialize(module: nn.Module, key: jax.Array, shape: tuple[int, ...] | PyTree) -> Variables:
    """Draw the variables of `module` for images of `shape` `[batch, height, width, channels]`.

    Instead of a shape, inputs of any kind may be given, arrays or `jax.ShapeDtypeStruct`.

    Under `jax.eval_shape` nothing is allocated:
    `jax.eval_shape(lambda key: initialize(module, key, shape), key)`.

    Example:
        >>> module = ResNet(depth=8, width=2)
        >>> draw = lambda key: initialize(module, key, shape=(1, 8, 8, 1))
        >>> sorted(jax.eval_shape(draw, jax.random.key(0)))
        ['batch_stats', 'params']
        >>> module, tokens = GPT2(width=8, heads=2, depth=1), NETWORKS["gpt2"].inputs
        >>> sorted(jax.eval_shape(lambda key: initialize(module, key, tokens), jax.random.key(0)))
        ['params']
    """
    is_shape = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32) if is_shape else shape

    @jax.jit
    def draw(key: jax.Array) -> Variables:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inputs)
        return dict(module.init(key, zeros, train=False))

    return draw(key)


def evaluation_function(module: nn.Module) -> Callable[[Variables, PyTree], jax.Array]:
    """Return `apply(variables, images) -> logits [batch, classes]` in evaluation mode.

    Of a transformer, inputs and outputs are those that its module names.

    Example:
        >>> module = ResNet(depth=8, width=2)
        >>> draw = lambda key: initialize(module, key, shape=(1, 8, 8, 1))
        >>> variables = jax.eval_shape(draw, jax.random.key(0))
        >>> jax.eval_shape(evaluation_function(module), variables, jnp.ones([3, 8, 8, 1])).shape
        (3, 10)
    """

    def apply(variables: Variables, images: PyTree) -> jax.Array:
        return cast(jax.Array, module.apply(variables, images, train=False))

    return apply


def training_function(module: nn.Module) -> TrainingApply:
    """Return `apply(variables, images, key=None) -> (logits, state)` in training mode.

    `state` holds the new value of every collection but `params`, e.g. `{"batch_stats": ...}`, and
    is `{}` where there is none: `{**variables, **state}` are the variables after the step. `key`
    feeds dropout; a network that drops out without one raises Flax's `InvalidRngError`.

    Example:
        >>> module = ResNet(depth=8, width=2)
        >>> draw = lambda key: initialize(module, key, shape=(1, 8, 8, 1))
        >>> variables = jax.eval_shape(draw, jax.random.key(0))
        >>> logits, state = jax.eval_shape(
        ...     training_function(module), variables, jnp.ones([3, 8, 8, 1])
        ... )
        >>> sorted(state)
        ['batch_stats']
    """

    def apply(
        variables: Variables, images: PyTree, key: jax.Array | None = None
    ) -> tuple[jax.Array, Variables]:
        collections = [name for name in variables if name != "params"]
        rngs = None if key is None else {"dropout": key}
        logits, state = module.apply(variables, images, train=True, mutable=collections, rngs=rngs)
        return logits, dict(state)

    return apply
