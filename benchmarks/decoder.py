"""A LLaMA-like decoder in plain JAX, for shapes alone: 7 billion parameters by default."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Function, PyTree

__all__ = ["decoder", "decoder_shapes"]

WIDTH, HIDDEN, HEADS, WORDS = 4096, 11008, 32, 32000


def decoder_shapes(layers: int = 32) -> PyTree:
    """Return the abstract variables, bfloat16."""
    square, wide = (WIDTH, WIDTH), (WIDTH, HIDDEN)
    layer: dict[str, tuple[int, ...]] = dict.fromkeys("qkvo", square)
    layer |= {"gate": wide, "up": wide, "down": wide[::-1]}
    layer |= {"norm1": (WIDTH,), "norm2": (WIDTH,)}
    shapes = {"embed": (WORDS, WIDTH), "norm": (WIDTH,), "head": (WIDTH, WORDS)}
    every = {**shapes, "layers": {str(number): layer for number in range(layers)}}
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16),
        every,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-6)
    return wide.astype(x.dtype) * scale


def _rotated(x: jax.Array) -> jax.Array:
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] * 1e4 ** (-jnp.arange(half) / half)
    cos, sin = (f(angles)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    left, right = jnp.split(x, 2, -1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def _block(x: jax.Array, layer: PyTree) -> jax.Array:
    hidden, (batch, length, _) = _norm(x, layer["norm1"]), x.shape
    q, k, v = ((hidden @ layer[n]).reshape(batch, length, HEADS, -1) for n in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", _rotated(q), _rotated(k)) / q.shape[-1] ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(x.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, WIDTH)
    x = x + mixed @ layer["o"]
    hidden = _norm(x, layer["norm2"])
    return x + (jax.nn.silu(hidden @ layer["gate"]) * (hidden @ layer["up"])) @ layer["down"]


def decoder(layers: int = 32) -> Function:
    """Return `apply(variables, tokens) -> logits`, its layers one after the other."""

    def apply(variables: PyTree, tokens: jax.Array) -> jax.Array:
        x = variables["embed"][tokens]
        for number in range(layers):
            x = _block(x, variables["layers"][str(number)])
        return _norm(x, variables["norm"]) @ variables["head"]

    return apply
