"""Residual streams of Linen networks: shipped ones, and blocks that gate or normalise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxcompress import models
from jaxcompress.graph import Graph, internal_groups, streams, trace
from jaxcompress.models.layers import batch_norm, convolution
from jaxcompress.models.mobilenet import InvertedResidual

SHAPE = (2, 32, 32, 3)


def traced(
    module: nn.Module, mode: Callable[[nn.Module], Any] = models.evaluation_function
) -> Graph:
    key = jax.random.key(0, impl="unsafe_rbg")
    variables = jax.eval_shape(lambda: models.initialize(module, key, SHAPE))
    return trace(mode(module), variables, jax.ShapeDtypeStruct(SHAPE, jnp.float32))


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "resnet50", "vgg16_bn"])
def test_where_kernels_only_add_streams_are_what_several_make(name: str) -> None:
    graph = traced(models.build(name))
    several = [n for n, group in graph.groups.items() if len(group.producers) > 1]
    assert streams(graph) == several
    assert internal_groups(graph) == [n for n in graph.groups if n not in several]


def test_training_has_the_streams_of_evaluation() -> None:
    """Batch statistics, which are subtracted, are no second branch."""
    module = models.build("resnet8", shortcut="B")
    assert streams(traced(module, models.training_function)) == streams(traced(module))
    assert len(streams(traced(module))) == 3


def test_lanes_of_padding_belong_to_the_stream() -> None:
    """Of option A's last stage no second kernel makes the padded lanes: axes count as a whole."""
    graph = traced(models.build("resnet8"))
    assert streams(graph) == [f"params/stage{s}_block0/conv2/kernel[3]" for s in (1, 2, 3)]


def test_heads_of_attention_are_internal() -> None:
    """Queries meet keys in a product, however many kernels make their width."""
    graph = traced(models.VisionTransformer(width=8, depth=1, heads=2, mlp_ratio=2))
    assert streams(graph) == ["params/block0/attention/out/kernel[2]"]
    assert len(internal_groups(graph)) == 4


class _SqueezeExcite(nn.Module):
    """MobileNetV3's and EfficientNet's block: the gate is a second kernel of the wide width."""

    features: int
    act: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        wide = 2 * images.shape[-1]
        norm = partial(batch_norm, train=train)
        hidden = self.act(norm("expand_bn")(convolution("expand", wide, 1)(images)))
        hidden = convolution("depthwise", wide, 3, groups=wide)(hidden)
        hidden = self.act(norm("depthwise_bn")(hidden))
        gate = nn.relu(nn.Dense(4, name="squeeze")(hidden.mean((1, 2), keepdims=True)))
        hidden = hidden * nn.hard_sigmoid(nn.Dense(wide, name="excite")(gate))
        hidden = norm("project_bn")(convolution("project", self.features, 1)(hidden))
        return images + hidden if hidden.shape == images.shape else hidden


class _Network(nn.Module):
    """A stem, blocks and a classifier."""

    blocks: tuple[nn.Module, ...]
    stem: int = 8

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        hidden = convolution("stem", self.stem, 3, stride=2)(images)
        for block in self.blocks:
            hidden = block(hidden, train)
        hidden = nn.relu6(convolution("head", 24, 1)(hidden))
        return nn.Dense(10, name="classifier")(hidden.mean((1, 2)))


@pytest.mark.parametrize("act", [nn.hard_swish, nn.swish])
def test_squeeze_excite_gates_an_internal_width(act: Callable[[jax.Array], jax.Array]) -> None:
    graph = traced(_Network(tuple(_SqueezeExcite(features, act) for features in (8, 16, 16))))
    blocks = [f"params/blocks_{number}" for number in range(3)]
    assert streams(graph) == [f"{block}/project/kernel[3]" for block in blocks[:2]]
    wide = [f"{block}/depthwise/kernel[3]" for block in blocks]
    squeezed = [f"{block}/squeeze/kernel[1]" for block in blocks]
    assert set(internal_groups(graph)) == {*wide, *squeezed, "params/head/kernel[3]"}


# EfficientNet-Lite0: expansion, channels, blocks, stride; its windows of 5x5 are 3x3 here.
LITE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 40, 2, 2),
    (6, 80, 3, 2),
    (6, 112, 3, 1),
    (6, 192, 4, 2),
    (6, 320, 1, 1),
)


def test_efficientnet_lite() -> None:
    """A stream per stage of several blocks; every expanded width is internal."""
    first: list[int] = []
    blocks: list[InvertedResidual] = []
    for expansion, features, count, stride in LITE:
        first += [len(blocks)] if count > 1 else []
        blocks.append(InvertedResidual(features, expansion, stride))
        blocks += [InvertedResidual(features, expansion) for _ in range(count - 1)]
    graph = traced(_Network(tuple(blocks), stem=32))
    assert streams(graph) == [f"params/blocks_{n}/project_conv/kernel[3]" for n in first]
    wide = {f"params/blocks_{n}/depthwise_conv/kernel[3]" for n in range(len(blocks))}
    assert len(first) == 5 and wide < set(internal_groups(graph))


@pytest.mark.parametrize("kind", [nn.LayerNorm, partial(nn.GroupNorm, 4), nn.InstanceNorm])
def test_normalisation_adds_no_branch(kind: Callable[..., nn.Module]) -> None:
    """Neither do the formulae of activations."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, train: bool) -> jax.Array:
            hidden = kind(name="norm")(convolution("expand", 12, 1)(images))
            return convolution("project", 8, 1)(nn.gelu(hidden))

    graph = traced(_Network((Block(),)))
    assert streams(graph) == [] and "params/blocks_0/project/kernel[3]" in graph.groups
