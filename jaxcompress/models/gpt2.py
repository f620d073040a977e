"""GPT-2: a causal transformer with learned places, LayerNorm and one kernel of attention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.models.decoder import causal_mask
from jaxcompress.models.layers import check_heads, output_logits, tokens_and_mask
from jaxcompress.models.stacking import apply_layers

__all__ = ["GPT2", "GPT2Layer"]


class GPT2Layer(nn.Module):
    """Pre-norm layer: `x = x + attention(norm1(x))`, then `x = x + mlp(norm2(x))`.

    Example:
        >>> layer = GPT2Layer(heads=2)
        >>> init = partial(layer.init, mask=None, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3, 8]))
        >>> variables["params"]["query_key_value"]["kernel"].shape
        (8, 3, 2, 4)
    """

    heads: int
    epsilon: float = 1e-5
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        """Map `[batch, tokens, width]` to the same; `mask` is bool[batch, 1, tokens, tokens]."""
        width = hidden.shape[-1]
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense, split = (
            partial(nn.Dense, dtype=self.dtype),
            partial(nn.DenseGeneral, dtype=self.dtype),
        )
        drop = nn.Dropout(self.dropout, deterministic=not train)
        shape = (3, self.heads, width // self.heads)
        fused = split(shape, name="query_key_value")(norm(name="norm1")(hidden))
        query, key, value = (fused[..., part, :, :] for part in range(3))
        mixed = nn.dot_product_attention(query, key, value, mask=mask, dtype=self.dtype)
        hidden = hidden + drop(split(width, axis=(-2, -1), name="out")(mixed))
        wide = nn.gelu(dense(4 * width, name="mlp_expand")(norm(name="norm2")(hidden)))
        return hidden + drop(dense(width, name="mlp_project")(wide))


class GPT2(nn.Module):
    """GPT-2 of Radford et al. 2019, "Language models are unsupervised multitask learners".

    The defaults are those with 124 million parameters; the logits read the embedding of tokens.

    Attributes:
        vocabulary: how many tokens there are.
        width: features of a token; a multiple of `heads`.
        depth: layers.
        heads: attention heads of a layer.
        positions: the longest sequence.
        epsilon: of every LayerNorm.
        dropout: rate after embeddings, attention and perceptron, drawn from the rng `dropout`.
        scan: whether variables of layers are stacked, as in `stack_layers`.
        dtype: of the computation; None takes what the variables have (float32).

    Raises:
        ValueError: if `width` is no multiple of `heads`, or a sequence longer than `positions`.

    Example:
        >>> module = GPT2(vocabulary=10, width=8, depth=1, heads=2)
        >>> init = partial(module.init_with_output, train=False)
        >>> logits, _ = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3], int))
        >>> logits.shape
        (1, 3, 10)
    """

    vocabulary: int = 50257
    width: int = 768
    depth: int = 12
    heads: int = 12
    positions: int = 1024
    epsilon: float = 1e-5
    dropout: float = 0.0
    scan: bool = False
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        check_heads(self.width, self.heads)

    @nn.compact
    def __call__(self, inputs: jax.Array | Mapping[str, jax.Array], train: bool) -> jax.Array:
        """Map tokens to logits of the token that follows each, `[batch, tokens, vocabulary]`.

        Args:
            inputs: `int[batch, tokens]`, or a mapping with these as `tokens` and, where wanted,
                `mask` `[batch, tokens]`, nonzero where a token is no padding.
            train: whether to drop out.
        """
        tokens, mask = tokens_and_mask(inputs, self.positions)
        embed = partial(nn.Embed, features=self.width, dtype=self.dtype)
        words = embed(self.vocabulary, name="token_embedding")
        places = embed(self.positions, name="position_embedding")(jnp.arange(tokens.shape[1]))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(words(tokens) + places)
        layer = partial(GPT2Layer, self.heads, self.epsilon, self.dropout, self.dtype)
        attended = causal_mask(tokens.shape[1], mask)
        hidden = apply_layers(layer, self.depth, self.scan, hidden, attended, train)
        norm = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="final_norm")
        return output_logits(words.attend(norm(hidden)))
