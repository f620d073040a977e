"""A bidirectional transformer over tokens, normalised after each branch: BERT and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxcompress.annotations import Array
from jaxcompress.models.layers import check_heads, output_logits, tokens_and_mask
from jaxcompress.models.stacking import apply_layers

__all__ = ["Encoder", "EncoderLayer"]


class EncoderLayer(nn.Module):
    """Post-norm layer: `x = norm1(x + attention(x))`, then `x = norm2(x + mlp(x))`.

    Example:
        >>> layer = EncoderLayer(heads=2, mlp_width=16)
        >>> init = partial(layer.init, mask=None, train=False)
        >>> variables = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3, 8]))
        >>> variables["params"]["attention"]["out"]["kernel"].shape
        (2, 4, 8)
    """

    heads: int
    mlp_width: int
    epsilon: float = 1e-12
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        """Map `[batch, tokens, width]` to the same shape; `mask` is bool[batch, 1, 1, tokens]."""
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype, name="attention")
        hidden = norm(name="norm1")(hidden + drop(attention(hidden, mask=mask)))
        wide = nn.gelu(dense(self.mlp_width, name="mlp_expand")(hidden), approximate=False)
        branch = dense(hidden.shape[-1], name="mlp_project")(wide)
        return norm(name="norm2")(hidden + drop(branch))


class Encoder(nn.Module):
    """BERT of Devlin et al. 2019 (arXiv:1810.04805), section 3, without its pre-training heads.

    The defaults are MiniLM's with 6 layers (Wang et al. 2020, arXiv:2002.10957).

    Attributes:
        vocabulary: how many tokens there are.
        width: features of a token; a multiple of `heads`.
        depth: layers.
        heads: attention heads of a layer.
        mlp_width: width of the hidden layer of a layer's perceptron.
        positions: the longest sequence.
        types: how many kinds of segments there are.
        pooler: whether a dense layer and tanh read the first token.
        num_classes: width of the logits, of the pooled token if there is a pooler, otherwise of
            every token; 0 for no logits.
        epsilon: of every LayerNorm.
        dropout: rate after embeddings, attention and perceptron, drawn from the rng `dropout`.
        scan: whether variables of layers are stacked, as in `stack_layers`.
        dtype: of the computation; None takes what the variables have (float32).

    Raises:
        ValueError: if `width` is no multiple of `heads`, or a sequence longer than `positions`.

    Example:
        >>> module = Encoder(vocabulary=10, width=8, depth=1, heads=2, mlp_width=16)
        >>> init = partial(module.init_with_output, train=False)
        >>> outputs, _ = jax.eval_shape(init, jax.random.key(0), jnp.ones([1, 3], int))
        >>> outputs["tokens"].shape, outputs["pooled"].shape
        ((1, 3, 8), (1, 8))
    """

    vocabulary: int = 30522
    width: int = 384
    depth: int = 6
    heads: int = 12
    mlp_width: int = 1536
    positions: int = 512
    types: int = 2
    pooler: bool = True
    num_classes: int = 0
    epsilon: float = 1e-12
    dropout: float = 0.0
    scan: bool = False
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        """Refuse a configuration that names no network."""
        super().__post_init__()
        check_heads(self.width, self.heads)

    @nn.compact
    def __call__(self, inputs: jax.Array | Mapping[str, jax.Array], train: bool) -> Array:
        """Map tokens to features or logits.

        Args:
            inputs: `int[batch, tokens]`, or a mapping with these as `tokens` and, where wanted,
                `mask` `[batch, tokens]`, nonzero where a token is no padding, and `types`
                `int[batch, tokens]`, by default 0.
            train: whether to drop out.

        Returns:
            Without classes, features of all `tokens` `[batch, tokens, width]`; with a pooler, a
            dict of these and of `pooled` `[batch, width]`. With classes, logits
            `[batch, num_classes]`, or `[batch, tokens, num_classes]` without a pooler.
        """
        tokens, mask = tokens_and_mask(inputs, self.positions)
        types = inputs.get("types") if isinstance(inputs, Mapping) else None
        hidden = self._embed(tokens, types, train)
        layer = partial(
            EncoderLayer, self.heads, self.mlp_width, self.epsilon, self.dropout, self.dtype
        )
        attended = None if mask is None else mask[:, None, None, :]
        hidden = apply_layers(layer, self.depth, self.scan, hidden, attended, train)
        dense = partial(nn.Dense, dtype=self.dtype)
        pooled = jnp.tanh(dense(self.width, name="pooler")(hidden[:, 0])) if self.pooler else None
        if self.num_classes:
            read = hidden if pooled is None else pooled
            return output_logits(dense(self.num_classes, name="classifier")(read))
        return hidden if pooled is None else {"tokens": hidden, "pooled": pooled}

    def _embed(self, tokens: jax.Array, types: jax.Array | None, train: bool) -> jax.Array:
        """Add up what a token, its place and its segment stand for, and normalise."""
        embed = partial(nn.Embed, features=self.width, dtype=self.dtype)
        places = jnp.arange(tokens.shape[1])
        types = jnp.zeros_like(tokens) if types is None else types
        hidden = embed(self.vocabulary, name="token_embedding")(tokens)
        hidden += embed(self.positions, name="position_embedding")(places)
        hidden += embed(self.types, name="type_embedding")(types)
        hidden = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="embedding_norm")(hidden)
        return nn.Dropout(self.dropout, deterministic=not train)(hidden)
