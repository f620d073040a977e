"""Toys that sum over their channels: every normalisation, softmax, maxima, residual streams."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from tests.toys.record import Toy, draw, initial, rows

__all__ = ["NATIVE", "TOYS"]

IMAGES = rows(2, 6, 6, 3)
ROWS = rows(5, 4)
TOKENS = rows(2, 5, 4)
STREAM = {"embed": (4, 12), "up": (12, 10), "up_bias": (10,), "down": (10, 12), "head": (12, 3)}


def _normalised(x: jax.Array, axes: Any = -1) -> jax.Array:
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.var(x, axes, keepdims=True) + 1e-6)


def _root_mean_square(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def layer_norm() -> Toy:
    """A residual stream under LayerNorm in two passes, by hand: the whole width may go."""

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        stream = tokens @ variables["embed"]
        hidden = jax.nn.gelu(_normalised(stream) @ variables["up"] + variables["up_bias"])
        return _normalised(stream + hidden @ variables["down"]) @ variables["head"]

    return Toy(apply, draw(1, STREAM), (TOKENS,), {"down[1]": 12, "up[1]": 10})


def layer_norm_one_pass() -> Toy:
    """The same from the sum and the sum of squares, divided by the size as a number."""

    def norm(x: jax.Array) -> jax.Array:
        size = x.shape[-1]
        mean = x.sum(-1, keepdims=True) * (1 / size)
        square = (x * x).sum(-1, keepdims=True) / size
        return (x - mean) * lax.rsqrt(square - mean * mean + 1e-3)

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        stream = tokens @ variables["embed"]
        hidden = jax.nn.silu(norm(stream) @ variables["up"] + variables["up_bias"])
        return norm(stream + hidden @ variables["down"]) @ variables["head"]

    return Toy(apply, draw(2, STREAM), (TOKENS,), {"down[1]": 12, "up[1]": 10})


class _Normed(nn.Module):
    """Linen's own normalisations, one after the other."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.gelu(nn.LayerNorm()(nn.Dense(12)(x)))
        x = nn.silu(nn.RMSNorm()(nn.Dense(10)(x)))
        x = nn.LayerNorm(use_fast_variance=False)(nn.Dense(14)(x))
        return nn.Dense(2)(x)


def linen_norms() -> Toy:
    """LayerNorm in both variants and RMSNorm, as Linen writes them."""
    module = _Normed()
    groups = {f"params/Dense_{i}/kernel[1]": width for i, width in enumerate((12, 10, 14))}
    return Toy(module.apply, initial(module, ROWS), (ROWS,), groups)


class _Grouped(nn.Module):
    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.GroupNorm(num_groups=4)(nn.Conv(16, (3, 3))(images)))
        return nn.Dense(2)(hidden.mean((1, 2)))


def linen_group_norm() -> Toy:
    """GroupNorm: whole groups go, each with its own statistics."""
    module = _Grouped()
    return Toy(module.apply, initial(module, IMAGES), (IMAGES,), {"params/Conv_0/kernel[3]": 4})


def weight_standardised() -> Toy:
    """Kernels normalised over their inputs and window, as BiT: no gates per example for those."""
    shapes = {"first": (3, 3, 3, 8), "second": (3, 3, 8, 6), "head": (6, 2)}

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        kernel = _normalised(kernel, (0, 1, 2))
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(convolve(images, variables["first"]))
        hidden = jax.nn.relu(convolve(hidden, variables["second"]))
        return hidden.mean((1, 2)) @ variables["head"]

    groups = {"first[3]": 8, "second[3]": 6}
    return Toy(apply, draw(3, shapes), (IMAGES,), groups, shared=("first[3]",))


def response_norm() -> Toy:
    """Global response normalisation, as ConvNeXt 2: each channel against the mean of all."""
    shapes = {"first": (3, 9), "scale": (9,), "bias": (9,), "second": (9, 5), "head": (5, 2)}

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = jax.nn.gelu(images @ variables["first"])
        energy = jnp.sqrt((hidden**2).sum((1, 2), keepdims=True) + 1e-6)
        weight = energy / (energy.mean(-1, keepdims=True) + 1e-6)
        hidden = variables["scale"] * (hidden * weight) + variables["bias"] + hidden
        hidden = jnp.tanh(hidden @ variables["second"])
        return hidden.mean((1, 2)) @ variables["head"]

    return Toy(apply, draw(4, shapes), (IMAGES,), {"first[1]": 9, "second[1]": 5})


def channel_softmax() -> Toy:
    """Softmax and log-sum-exp over channels, cosine similarity, a maximum over channels."""
    shapes = {"first": (4, 8), "second": (8, 7), "third": (7, 6), "peak": (4, 5), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.softmax(inputs @ variables["first"])
        hidden = hidden @ variables["second"]
        hidden = hidden - jax.nn.logsumexp(hidden, axis=-1, keepdims=True)
        hidden = jnp.tanh(hidden @ variables["third"])
        hidden = hidden / (0.1 + jnp.linalg.norm(hidden + 0.1, axis=-1, keepdims=True))
        peaks = inputs @ variables["peak"]
        return hidden @ variables["head"] + peaks.max(-1, keepdims=True) * peaks.min(
            -1, keepdims=True
        )

    groups = {"first[1]": 8, "peak[1]": 5, "second[1]": 7, "third[1]": 6}
    return Toy(apply, draw(5, shapes), (ROWS,), groups)


def _rotated(x: jax.Array) -> jax.Array:
    angles = jnp.arange(x.shape[1])[:, None, None] * jnp.array([1.0, 0.1])
    left, right = jnp.split(x, 2, axis=-1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def scanned_decoder() -> Toy:
    """A scanned decoder, pre-norm: RMSNorm, rotary positions, SwiGLU, tied embeddings."""
    shapes = {
        "embedding": (11, 12),
        "scale": (2, 12),
        "query": (2, 12, 2, 4),
        "key": (2, 12, 2, 4),
        "value": (2, 12, 2, 4),
        "out": (2, 2, 4, 12),
        "gate": (2, 12, 10),
        "up": (2, 12, 10),
        "down": (2, 10, 12),
    }

    def block(stream: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        hidden = _root_mean_square(stream) * layer["scale"]
        query, key, value = (
            jnp.einsum("btd,dhk->bthk", hidden, layer[n]) for n in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhk,bshk->bhqs", _rotated(query), _rotated(key)) / 2
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
        mixed = jnp.einsum("bhqs,bshk->bqhk", weights, value)
        stream = stream + jnp.einsum("bqhk,hkd->bqd", mixed, layer["out"])
        hidden = _root_mean_square(stream) * layer["scale"]
        hidden = jax.nn.silu(hidden @ layer["gate"]) * (hidden @ layer["up"])
        return stream + hidden @ layer["down"], None

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        layers = {name: leaf for name, leaf in variables.items() if name != "embedding"}
        stream, _ = lax.scan(block, variables["embedding"][tokens], layers)
        return _root_mean_square(stream) @ variables["embedding"].T

    tokens = jnp.arange(10).reshape(2, 5)
    groups = {"down[0]": 2, "down[2]": 12, "gate[2]": 10, "key[2]": 2, "key[3]": 2, "value[3]": 4}
    return Toy(apply, draw(6, shapes), (tokens,), groups)


TOYS = (
    layer_norm,
    layer_norm_one_pass,
    linen_norms,
    linen_group_norm,
    weight_standardised,
    response_norm,
    channel_softmax,
    scanned_decoder,
)
NATIVE = (
    "layer_norm",
    "layer_norm_one_pass",
    "weight_standardised",
    "response_norm",
    "channel_softmax",
    "scanned_decoder",
)
"""Toys whose code, run on smaller arrays, is the smaller network."""
