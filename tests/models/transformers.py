"""Tiny transformers of every kind, unrolled and scanned, with padded tokens and drawn variables."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcompress.annotations import Function, PyTree
from jaxcompress.graph import Graph, trace
from jaxcompress.models import GPT2, Decoder, Encoder, evaluation_function, initialize

__all__ = ["INPUTS", "KINDS", "Case", "case", "drawn"]

WORDS = 11
ENCODER = Encoder(WORDS, 12, 2, 3, 10, positions=7, num_classes=4)
DECODER = Decoder(WORDS, 16, 2, heads=4, kv_heads=2, mlp_width=10)
SMALL_GPT2 = GPT2(WORDS, 16, 2, heads=4, positions=7)
KINDS: dict[str, Any] = {
    "encoder": ENCODER,
    "encoder_tokens": ENCODER.clone(pooler=False),
    "encoder_scanned": ENCODER.clone(scan=True),
    "decoder": DECODER,
    "decoder_tied": DECODER.clone(tied=True),
    "decoder_scanned": DECODER.clone(scan=True),
    "gpt2": SMALL_GPT2,
    "gpt2_scanned": SMALL_GPT2.clone(scan=True),
}
MASK = jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
INPUTS = {"tokens": jnp.array([[1, 4, 10, 0, 3], [2, 2, 7, 5, 5]]), "mask": MASK}


class Case(NamedTuple):
    """A tiny network, traced."""

    module: nn.Module
    apply: Function
    variables: PyTree
    graph: Graph


def drawn(shapes: PyTree, seed: int = 0) -> PyTree:
    """Draw every leaf, so that no channel looks like another."""
    random = np.random.default_rng(seed)
    leaves, treedef = jax.tree.flatten(shapes)
    draws = [random.normal(x.ndim < 2, 0.4, x.shape) for x in leaves]
    return jax.tree.unflatten(treedef, [jax.device_put(draw.astype(np.float32)) for draw in draws])


@functools.cache
def case(kind: str) -> Case:
    """Build a network once."""
    module = KINDS[kind]
    key = jax.random.key(0)
    variables = drawn(jax.eval_shape(lambda: initialize(module, key, INPUTS)))
    apply = evaluation_function(module)
    return Case(module, apply, variables, trace(apply, variables, INPUTS))
