"""A causal transformer with rotated queries and keys and gated perceptrons: LLaMA and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.layers import check_heads, output_logits, tokens_and_mask
from jaxcompress.models.stacking import apply_layers

__all__ = ["Decoder", "DecoderLayer", "causal_mask", "rotated"]


def causal_mask(length: int, mask: jax.Array | None) -> jax.Array:
    """Let each token see those before it and itself, but no padding: bool[batch, 1, to, from].

    Example:
        >>> causal_mask(3, jnp.array([[True, True, False]]))[0, 0].astype(int).tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    """
    before = jnp.tril(jnp.ones((1, 1, length, length), bool))
    return before if mask is None else before & mask[:, None, None, :]


def rotated(states: jax.Array, base: float) -> jax.Array:
    """Rotate features i and i + size/2 of the token at place p by the angle `p * base^(-2i/size)`.

    Args:
        states: `[batch, tokens, heads, size]`.
        base: of the wavelengths.

    Returns:
        The same shape and dtype; the angles are in float32.

    Source:
        Su et al. 2021 (arXiv:2104.09864), section 3.2; pairs lie half a head apart, as in LLaMA's
        published weights in the layout of Hugging Face.

    Example:
        >>> states = rotated(jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]]]), base=1e4)
        >>> [f"{feature:.3f}" for feature in states[0, 1, 0]]
        ['0.540', '0.841']
    """
    half = states.shape[-1] // 2
    waves = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(states.shape[1], dtype=jnp.float32)[:, None, None] * waves
    cos, sin = jnp.cos(angles).astype(states.dtype), jnp.sin(angles).astype(states.dtype)
    left, right = jnp.split(states, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


class DecoderLayer(nn.Module):
    """Pre-norm layer: `x = x + attention(norm1(x))`, then `x = x + mlp(norm2(x))`.

    The perceptron is `down(silu(gate(x)) * up(x))`; `heads / kv_heads` queries read each key.

    Example:
        >>> layer = DecoderLayer(heads=4, kv_heads=2, mlp_width=16)
        >>> init = partial(layer.init, mask=None, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3, 8]))
        >>> variables["params"]["key"]["kernel"].shape
        (8, 2, 2)
    """

    heads: int
    kv_heads: int
    mlp_width: int
    rope_base: float = 1e4
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        """Map `[batch, tokens, width]` to the same; `mask` is bool[batch, 1, tokens, tokens]."""
        width = hidden.shape[-1]
        norm = partial(nn.RMSNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype)
        split = partial(nn.DenseGeneral, use_bias=False, dtype=self.dtype)
        read, size = norm(name="norm1")(hidden), width // self.heads
        query = rotated(split((self.heads, size), name="query")(read), self.rope_base)
        key = rotated(split((self.kv_heads, size), name="key")(read), self.rope_base)
        value = split((self.kv_heads, size), name="value")(read)
        key, value = (jnp.repeat(x, self.heads // self.kv_heads, axis=2) for x in (key, value))
        mixed = nn.dot_product_attention(query, key, value, mask=mask, dtype=self.dtype)
        hidden = hidden + split(width, axis=(-2, -1), name="out")(mixed)
        read = norm(name="norm2")(hidden)
        gate, wide = (
            dense(self.mlp_width, name="gate")(read),
            dense(self.mlp_width, name="up")(read),
        )
        return hidden + dense(width, name="down")(nn.silu(gate) * wide)


class Decoder(nn.Module):
    """LLaMA of Touvron et al. 2023 (arXiv:2302.13971), section 2.2.

    The defaults are those with 7 billion parameters.

    Attributes:
        vocabulary: how many tokens there are.
        width: features of a token; a multiple of `heads`, an even one.
        depth: layers.
        heads: attention heads of a layer; a multiple of `kv_heads`.
        kv_heads: heads of keys and values, each read by `heads / kv_heads` queries (Ainslie et
            al. 2023, arXiv:2305.13245).
        mlp_width: width of the hidden layers of a layer's perceptron.
        tied: whether the logits read the embedding of tokens instead of a kernel of their own.
        rope_base: of the wavelengths of places.
        epsilon: of every RMSNorm.
        scan: whether variables of layers are stacked, as in `stack_layers`.
        dtype: of the computation; None takes what the variables have (float32).

    Raises:
        ValueError: if `width` is no multiple of `heads`, or `heads` none of `kv_heads`, or the
            size of a head is odd.

    Example:
        >>> module = Decoder(vocabulary=10, width=8, depth=1, heads=2, kv_heads=1, mlp_width=16)
        >>> init = partial(module.init_with_output, train=False)
        >>> logits, _ = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3], int))
        >>> logits.shape
        (1, 3, 10)
    """

    vocabulary: int = 32000
    width: int = 4096
    depth: int = 32
    heads: int = 32
    kv_heads: int = 32
    mlp_width: int = 11008
    tied: bool = False
    rope_base: float = 1e4
    epsilon: float = 1e-6
    scan: bool = False
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        check_heads(self.width, self.heads)
        if self.heads % self.kv_heads or self.width // self.heads % 2:
            raise ValueError(
                "heads must be a multiple of kv_heads, and width / heads even, got width "
                f"{self.width}, heads {self.heads} and kv_heads {self.kv_heads}; change one of them"
            )

    @nn.compact
    def __call__(self, inputs: jax.Array | Mapping[str, jax.Array], train: bool) -> jax.Array:
        """Map tokens to logits of the token that follows each, `[batch, tokens, vocabulary]`.

        Args:
            inputs: `int[batch, tokens]`, or a mapping with these as `tokens` and, where wanted,
                `mask` `[batch, tokens]`, nonzero where a token is no padding.
            train: changes nothing; all networks take it.
        """
        tokens, mask = tokens_and_mask(inputs)
        embed = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="token_embedding")
        layer = partial(
            DecoderLayer,
            self.heads,
            self.kv_heads,
            self.mlp_width,
            self.rope_base,
            self.epsilon,
            self.dtype,
        )
        attended = causal_mask(tokens.shape[1], mask)
        hidden = apply_layers(layer, self.depth, self.scan, embed(tokens), attended, train)
        hidden = nn.RMSNorm(epsilon=self.epsilon, dtype=self.dtype, name="final_norm")(hidden)
        if self.tied:
            return output_logits(embed.attend(hidden))
        head = nn.Dense(self.vocabulary, use_bias=False, dtype=self.dtype, name="head")
        return output_logits(head(hidden))
