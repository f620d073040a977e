"""Toys after known convolutional networks: ResNet, VGG, DenseNet, MobileNetV3."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxcompress.models import ResNet, evaluation_function, training_function
from tests.toys.record import Toy, draw, initial, rows

__all__ = ["IMAGES", "TOYS", "WIDTHS", "conv"]

IMAGES = rows(2, 6, 6, 3)


def conv(images: jax.Array, kernel: jax.Array, stride: int = 1, **options: Any) -> jax.Array:
    """Convolve `[batch, height, width, channels]`, padded to the same size."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=numbers, **options
    )


def norm(variables: Any, name: str, hidden: jax.Array) -> jax.Array:
    """Apply evaluation-mode BatchNorm with the leaves `name_*`."""
    scale, bias, mean, var = (variables[f"{name}_{part}"] for part in NORM)
    return (hidden - mean) * lax.rsqrt(var + 1e-5) * scale + bias


NORM = ("scale", "bias", "mean", "var")


def normed(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the leaves of a BatchNorm."""
    return {f"{name}_{part}": (width,) for part in NORM}


def _resnet(width: int, shortcut: str, groups: dict[str, int]) -> Toy:
    module = ResNet(depth=8, width=width, num_classes=3, shortcut=shortcut)  # type: ignore[arg-type]
    images = rows(2, 8, 8, 3, seed=1)
    variables = initial(module, images, train=False)
    return Toy(
        evaluation_function(module),
        variables,
        (images,),
        groups,
        training_function(module),
        tolerance=2e-5,
    )


def residual_a(width: int = 4) -> Toy:
    """Option A: padded channels make lanes, old and new, of the wider streams."""
    blocks = {f"params/stage{s}_block0/conv1/kernel[3]": width * 2 ** (s - 1) for s in (1, 2, 3)}
    streams = {
        "params/stage1_block0/conv2/kernel[3]": width,
        "params/stage2_block0/conv2/kernel[3]": width,
        "params/stage3_block0/conv2/kernel[3]": 2 * width,
    }
    return _resnet(width, "A", {**blocks, **streams})


def residual_b(width: int = 4) -> Toy:
    """Option B: projections, one stream per stage."""
    blocks = {f"params/stage{s}_block0/conv1/kernel[3]": width * 2 ** (s - 1) for s in (1, 2, 3)}
    streams = {
        "params/stage1_block0/conv2/kernel[3]": width,
        "params/stage2_block0/conv2/kernel[3]": 2 * width,
        "params/stage3_block0/conv2/kernel[3]": 4 * width,
    }
    return _resnet(width, "B", {**blocks, **streams})


class _Flattening(nn.Module):
    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        hidden = images
        for features in (self.width, self.width + 2):
            hidden = nn.Conv(features, (3, 3))(hidden)
            hidden = nn.relu(nn.BatchNorm(use_running_average=not train)(hidden))
            hidden = nn.max_pool(hidden, (2, 2), (2, 2))
        hidden = hidden.reshape([hidden.shape[0], -1])
        hidden = nn.relu(nn.Dense(5)(hidden))
        return nn.Dense(3)(hidden)


def flatten(width: int = 4) -> Toy:
    """VGG: a flatten of 2 x 2 pixels gives each channel four rows of the dense kernel."""
    module = _Flattening(width)
    images = rows(2, 8, 8, 3, seed=1)
    variables = initial(module, images, train=False)
    names = [f"params/{n}" for n in ("Conv_0/kernel[3]", "Conv_1/kernel[3]", "Dense_0/kernel[1]")]
    groups = dict(zip(names, (width, width + 2, 5), strict=True))
    module_apply, train_apply = evaluation_function(module), training_function(module)
    return Toy(module_apply, variables, (images,), groups, train_apply, gateable=tuple(names))


def concatenation(width: int = 4) -> Toy:
    """DenseNet: every layer reads all that came before."""
    shapes = {
        "stem": (3, 3, 3, width),
        **normed("norm0", width),
        "grow0": (3, 3, width, width),
        **normed("norm1", 2 * width),
        "grow1": (3, 3, 2 * width, width),
        "head": (3 * width, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = conv(images, variables["stem"])
        for layer in ("0", "1"):
            active = nn.relu(norm(variables, f"norm{layer}", hidden))
            hidden = jnp.concatenate([hidden, conv(active, variables[f"grow{layer}"])], axis=-1)
        return hidden.mean((1, 2)) @ variables["head"]

    groups = {"stem[3]": width, "grow0[3]": width, "grow1[3]": width}
    return Toy(apply, draw(2, shapes), (IMAGES,), groups)


def squeeze_excite(width: int = 4) -> Toy:
    """MobileNetV3: expand, depthwise, squeeze-excite gate, project back onto a residual."""
    shapes = {
        "stem": (3, 3, 3, width),
        "expand": (1, 1, width, 2 * width),
        "depthwise": (3, 3, 1, 2 * width),
        **normed("norm", 2 * width),
        "squeeze": (2 * width, width),
        "excite": (width, 2 * width),
        "excite_bias": (2 * width,),
        "project": (1, 1, 2 * width, width),
        "head": (width, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        stem = nn.relu(conv(images, variables["stem"]))
        hidden = nn.hard_swish(conv(stem, variables["expand"]))
        count = hidden.shape[-1]
        hidden = conv(hidden, variables["depthwise"], feature_group_count=count)
        hidden = nn.relu6(norm(variables, "norm", hidden))
        gate = nn.relu(hidden.mean((1, 2)) @ variables["squeeze"]) @ variables["excite"]
        hidden = hidden * nn.sigmoid(gate + variables["excite_bias"])[:, None, None, :]
        hidden = stem + conv(hidden, variables["project"])
        return hidden.mean((1, 2)) @ variables["head"]

    groups = {"project[3]": width, "depthwise[3]": 2 * width, "squeeze[1]": width}
    return Toy(apply, draw(3, shapes), (IMAGES,), groups)


TOYS = (residual_a, residual_b, flatten, concatenation, squeeze_excite)

WIDTHS = (residual_a, residual_b, concatenation, squeeze_excite)
"""Toys that take a width, so that the half as wide one is what half of every group leaves."""
