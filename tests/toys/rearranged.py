"""Toys of convolutions that group, shuffle, resample or rearrange channels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from tests.toys.convolution import IMAGES, conv
from tests.toys.record import Toy, draw, rows

__all__ = ["TOYS"]


def channel_multiplier() -> Toy:
    """A depthwise convolution with two outputs per channel: both go with their input."""
    shapes = {"stem": (3, 3, 3, 4), "depthwise": (3, 3, 1, 8), "head": (8, 3)}

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = nn.relu(conv(images, variables["stem"]))
        hidden = nn.relu(conv(hidden, variables["depthwise"], feature_group_count=4))
        return hidden.mean((1, 2)) @ variables["head"]

    return Toy(apply, draw(4, shapes), (IMAGES,), {"depthwise[3]": 4})


def grouped() -> Toy:
    """ResNeXt: whole groups go, or, by `split="lanes"`, the same position of every group."""
    shapes = {
        "stem": (1, 1, 3, 6),
        "grouped": (3, 3, 3, 8),
        "project": (1, 1, 8, 4),
        "head": (4, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = nn.relu(conv(images, variables["stem"]))
        hidden = nn.relu(conv(hidden, variables["grouped"], feature_group_count=2))
        hidden = nn.relu(conv(hidden, variables["project"]))
        return hidden.mean((1, 2)) @ variables["head"]

    return Toy(apply, draw(5, shapes), (IMAGES,), {"grouped[3]": 2, "project[3]": 4})


def shuffle(hidden: jax.Array, groups: int) -> jax.Array:
    """Interleave the channels of groups."""
    batch, height, width, channels = hidden.shape
    hidden = hidden.reshape(batch, height, width, groups, channels // groups)
    return hidden.swapaxes(3, 4).reshape(batch, height, width, channels)


def channel_shuffle() -> Toy:
    """ShuffleNetV2: half of the channels pass by, then both halves are interleaved."""
    shapes = {
        "stem": (3, 3, 3, 8),
        "first": (1, 1, 4, 4),
        "depthwise": (3, 3, 1, 4),
        "second": (1, 1, 4, 4),
        "third": (1, 1, 4, 4),
        "head": (8, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = nn.relu(conv(images, variables["stem"]))
        left, right = jnp.split(hidden, 2, axis=-1)
        right = nn.relu(conv(right, variables["first"]))
        right = conv(right, variables["depthwise"], feature_group_count=4)
        right = nn.relu(conv(right, variables["second"]))
        hidden = shuffle(jnp.concatenate([left, right], axis=-1), 2)
        left, right = jnp.split(hidden, 2, axis=-1)
        right = nn.relu(conv(right, variables["third"]))
        hidden = shuffle(jnp.concatenate([left, right], axis=-1), 2)
        return hidden.mean((1, 2)) @ variables["head"]

    groups = {
        "stem[3]:0": 2,
        "stem[3]:1": 2,
        "stem[3]:2": 4,
        "depthwise[3]": 4,
        "second[3]:0": 2,
        "second[3]:1": 2,
        "third[3]": 4,
    }
    return Toy(apply, draw(6, shapes), (IMAGES,), groups)


def grouped_shuffle() -> Toy:
    """ShuffleNetV1: grouped 1x1 convolutions around a shuffle and a depthwise convolution."""
    shapes = {
        "stem": (3, 3, 3, 8),
        "first": (1, 1, 4, 8),
        "depthwise": (3, 3, 1, 8),
        "second": (1, 1, 4, 8),
        "head": (8, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = nn.relu(conv(images, variables["stem"]))
        hidden = nn.relu(conv(hidden, variables["first"], feature_group_count=2))
        hidden = shuffle(hidden, 2)
        hidden = conv(hidden, variables["depthwise"], feature_group_count=8)
        hidden = nn.relu(conv(hidden, variables["second"], feature_group_count=2))
        return hidden.mean((1, 2)) @ variables["head"]

    return Toy(apply, draw(7, shapes), (IMAGES,), {"stem[3]": 4, "depthwise[3]": 2, "second[3]": 4})


def resampling() -> Toy:
    """Strided, dilated and transposed convolutions, average pooling and nearest upsampling."""
    shapes = {
        "down": (3, 3, 3, 4),
        "dilated": (3, 3, 4, 5),
        "up": (2, 2, 5, 4),
        "out": (1, 1, 4, 3),
    }

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = nn.gelu(conv(images, variables["down"], 2))
        hidden = nn.tanh(conv(hidden, variables["dilated"], rhs_dilation=(2, 2)))
        hidden = nn.avg_pool(hidden, (2, 2), (1, 1), "SAME")
        hidden = lax.conv_transpose(hidden, variables["up"], (2, 2), "SAME")
        hidden = nn.relu(nn.max_pool(hidden, (3, 3), (1, 1), "SAME"))
        hidden = jnp.repeat(jnp.repeat(hidden, 2, axis=1), 2, axis=2)
        return conv(hidden, variables["out"])

    return Toy(apply, draw(8, shapes), (IMAGES,), {"down[3]": 4, "dilated[3]": 5, "up[3]": 4})


def one_dimensional() -> Toy:
    """1-D convolutions over sequences, channels first."""
    shapes = {"first": (5, 3, 3), "first_bias": (5,), "second": (4, 5, 3), "head": (3, 4)}

    def apply(variables: Any, signals: jax.Array) -> jax.Array:
        hidden = lax.conv(signals, variables["first"], (1,), "SAME")
        hidden = nn.silu(hidden + variables["first_bias"][:, None])
        hidden = nn.relu(lax.conv(hidden, variables["second"], (2,), "VALID"))
        return jnp.einsum("oc,bct->bo", variables["head"], hidden)

    signals = rows(2, 3, 9)
    return Toy(apply, draw(9, shapes), (signals,), {"first[0]": 5, "second[0]": 4})


def group_norm() -> Toy:
    """GroupNorm: the lanes of a group are summed over, so whole groups go."""
    shapes = {"stem": (3, 3, 3, 8), "scale": (8,), "bias": (8,), "head": (8, 3)}

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = conv(images, variables["stem"])
        parts = hidden.reshape(*hidden.shape[:3], 4, 2)
        mean = parts.mean((1, 2, 4), keepdims=True)
        var = jnp.square(parts - mean).mean((1, 2, 4), keepdims=True)
        parts = (parts - mean) * lax.rsqrt(var + 1e-5)
        hidden = parts.reshape(hidden.shape) * variables["scale"] + variables["bias"]
        return nn.relu(hidden).mean((1, 2)) @ variables["head"]

    return Toy(apply, draw(10, shapes), (IMAGES,), {"stem[3]": 4})


def pixel_shuffle() -> Toy:
    """Channels become pixels: what is left of them, the colours, may be removed."""
    shapes = {"stem": (3, 3, 3, 5), "expand": (3, 3, 5, 16), "out": (3, 3, 4, 2)}

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = conv(nn.relu(conv(images, variables["stem"])), variables["expand"])
        batch, height, width, _ = hidden.shape
        hidden = hidden.reshape(batch, height, width, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5)
        hidden = nn.relu(hidden.reshape(batch, 2 * height, 2 * width, 4))
        return conv(hidden, variables["out"])

    return Toy(apply, draw(11, shapes), (IMAGES,), {"stem[3]": 5, "expand[3]": 4})


TOYS = (
    channel_multiplier,
    grouped,
    channel_shuffle,
    grouped_shuffle,
    resampling,
    one_dimensional,
    group_norm,
    pixel_shuffle,
)
