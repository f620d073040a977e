"""Laws 1 and 4 on the shipped networks, and their published multiply-accumulates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph import Graph

CIFAR, IMAGENET = (2, 32, 32, 3), (1, 224, 224, 3)

# Millions of multiply-accumulates of convolutions and dense layers per image, as published, and the
# last digit's half: the CIFAR networks in the tables of pruning papers (HRank, CHIP), the ImageNet
# ones in torchvision's (0.30, 4.09 and 15.47 thousand).
MACS: list[tuple[str, dict[str, Any], tuple[int, ...], float, float]] = [
    ("resnet20", {}, CIFAR, 40.55, 0.005),
    ("resnet56", {}, CIFAR, 125.49, 0.005),
    ("vgg16", {}, CIFAR, 313.73, 0.005),
    ("mobilenet_v2", {}, IMAGENET, 300, 5),
    ("efficientnet_lite0", {}, IMAGENET, 385, 5),
    ("resnet50", {}, IMAGENET, 4090, 5),
    ("vgg16_imagenet", {}, IMAGENET, 15470, 5),
]

NETWORKS = [
    ("resnet20", {}),
    ("resnet20", {"shortcut": "B"}),
    ("resnet56", {}),
    ("vgg16_bn", {}),
    ("vgg19", {}),
    ("mobilenet_v2", {"num_classes": 10, "stem_stride": 1}),
    ("vit_tiny", {}),
]


def traced(
    name: str, config: dict[str, Any], shape: tuple[int, ...]
) -> tuple[Function, PyTree, Graph]:
    module = models.build(name, **config)
    key = jax.random.key(0, impl="unsafe_rbg")
    variables = jax.eval_shape(lambda: models.initialize(module, key, (1, *shape[1:])))
    apply = models.evaluation_function(module)
    return apply, variables, jc.trace(apply, variables, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(("name", "config", "shape", "macs", "digit"), MACS)
def test_published_multiply_accumulates(
    name: str, config: dict[str, Any], shape: tuple[int, ...], macs: float, digit: float
) -> None:
    _, _, graph = traced(name, config, shape)
    assert graph.flops / 2e6 == pytest.approx(macs, abs=digit)


def test_resnet56_has_three_streams_and_27_blocks() -> None:
    _, _, graph = traced("resnet56", {}, CIFAR)
    internal = jc.graph.internal_groups(graph)
    assert (len(graph.groups), len(internal)) == (30, 27)


def test_mobilenet_v2_has_five_streams_and_20_widths_of_one_kernel() -> None:
    """A depthwise kernel passes the channels of the kernel before it on; it makes none."""
    _, _, graph = traced("mobilenet_v2", {}, CIFAR)
    internal, streams = jc.graph.internal_groups(graph), jc.graph.streams(graph)
    assert sorted([*internal, *streams]) == sorted(graph.groups)
    assert streams == [f"params/stage{s}_block0/project_conv/kernel[3]" for s in range(2, 7)]
    expanded = [name for name in internal if "depthwise" in name]
    assert len(internal) == 20 and len(expanded) == 17
    scores = {name: np.arange(graph.groups[name].width) for name in internal}
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    assert graph.cost.flops(graph.cost.widths(keep)) <= 0.5 * graph.flops


def randomised(variables: PyTree, seed: int = 0) -> PyTree:
    """Draw every leaf, statistics and biases too, so that no channel looks like another."""
    random = np.random.default_rng(seed)
    leaves, treedef = jax.tree.flatten(variables)

    def draw(leaf: Array) -> np.ndarray:
        if leaf.ndim <= 1:
            return random.uniform(0.5, 1.5, leaf.shape)
        fan_in = np.prod(leaf.shape[:-1])
        return random.normal(0, fan_in**-0.5, leaf.shape)

    return jax.tree.unflatten(treedef, [jax.device_put(draw(x).astype(np.float32)) for x in leaves])


@pytest.mark.parametrize(("name", "config"), NETWORKS, ids=lambda x: str(x))
def test_masked_equals_shrunk_and_costs_as_predicted(name: str, config: dict[str, Any]) -> None:
    apply, shapes, graph = traced(name, config, CIFAR)
    variables = randomised(shapes)
    images = np.random.default_rng(1).normal(size=CIFAR).astype(np.float32)
    random = np.random.default_rng(2)
    keep = {n: random.random(g.width) < 0.6 for n, g in graph.groups.items()}
    for mask in keep.values():
        mask[random.integers(len(mask))] = True
    prune = jc.shrink(graph, keep)
    small = prune.variables(variables)
    shrunk = jax.jit(prune.function(apply))(small, images)
    gated = jax.jit(jc.gated(graph, apply))  # one program for both
    masked, dense = (
        gated(variables, {n: mask.astype(np.float32) for n, mask in gates.items()}, images)
        for gates in (keep, {n: np.ones(len(mask)) for n, mask in keep.items()})
    )
    scale = np.abs(masked).max()
    np.testing.assert_allclose(shrunk, masked, atol=1e-5 * scale)
    assert np.isfinite(shrunk).all() and np.abs(masked - dense).max() > 1e-2 * scale

    again = jc.trace(prune.function(apply), small, images)
    widths = graph.cost.widths(keep)
    assert again.flops == graph.cost.flops(widths)
    assert again.params == graph.cost.params(widths)
