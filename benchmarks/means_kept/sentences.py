"""Similarity of sentences by an encoder: the STS benchmark, read, padded, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy.stats import spearmanr

from jaxcompress.annotations import Function, PyTree

__all__ = [
    "Pairs",
    "batches",
    "correlation",
    "embedding",
    "first",
    "padded",
    "read_pairs",
    "similarity",
]


class Pairs(NamedTuple):
    """Pairs of sentences.

    Attributes:
        sides: tokens of the first and of the second sentences, `[CLS]` and `[SEP]` included.
        labels: how similar people find them, 0 to 5.
    """

    sides: tuple[list[list[int]], list[list[int]]]
    labels: np.ndarray


def read_pairs(table: Path, tokenizer: Path, longest: int = 128) -> Pairs:
    """Read a table of the STS benchmark, and cut its sentences into tokens."""
    import tokenizers

    cutter: Any = tokenizers.Tokenizer.from_file(str(tokenizer))
    cutter.no_padding()
    cutter.enable_truncation(longest)
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    first, second = (
        [encoded.ids for encoded in cutter.encode_batch([row[column] for row in rows])]
        for column in (5, 6)
    )
    return Pairs((first, second), np.array([float(row[4]) for row in rows]))


def embedding(module: nn.Module) -> Function:
    """Make `apply(variables, inputs) -> [sentences, width]`, the means of tokens at length 1."""

    def apply(variables: PyTree, inputs: PyTree) -> jax.Array:
        outputs: Any = module.apply(variables, inputs, train=False)
        features = outputs["tokens"]
        read = inputs["mask"][..., None].astype(features.dtype)
        mean = (features * read).sum(1) / read.sum(1)
        return mean / jnp.sqrt(jnp.square(mean).sum(-1, keepdims=True))

    return apply


def similarity(module: nn.Module) -> Function:
    """Make `apply(variables, (first, second)) -> cosine [pairs]` of the embeddings."""
    embed = embedding(module)

    def apply(variables: PyTree, pair: tuple[PyTree, PyTree]) -> jax.Array:
        first, second = (embed(variables, inputs) for inputs in pair)
        return (first * second).sum(-1)

    return apply


def padded(sentences: list[list[int]], length: int) -> dict[str, np.ndarray]:
    """Return the `tokens` and `mask` of sentences, `[sentences, length]`."""
    padding = [length - len(tokens) for tokens in sentences]
    rows = [tokens + [0] * more for tokens, more in zip(sentences, padding, strict=True)]
    mask = [[1] * (length - more) + [0] * more for more in padding]
    return {"tokens": np.array(rows, np.int32), "mask": np.array(mask, np.int32)}


def batches(pairs: Pairs, size: int = 50) -> list[tuple[np.ndarray, tuple[PyTree, PyTree]]]:
    """Sort the pairs by length; return the places and inputs of batches of few lengths."""
    lengths = np.array([max(map(len, pair)) for pair in zip(*pairs.sides, strict=True)])
    order = np.argsort(lengths, kind="stable")
    parts = np.split(order, range(size, len(order), size))
    made = []
    for places in parts:
        length = -(-int(lengths[places].max()) // 16) * 16
        first, second = (padded([side[i] for i in places], length) for side in pairs.sides)
        made.append((places, (first, second)))
    return made


def first(pairs: Pairs, count: int) -> Pairs:
    """Return the first pairs."""
    left, right = (side[:count] for side in pairs.sides)
    return Pairs((left, right), pairs.labels[:count])


def correlation(apply: Function, variables: PyTree, pairs: Pairs) -> float:
    """Return Spearman's correlation of the similarities with the labels."""
    run, values = jax.jit(apply), np.empty(len(pairs.labels))
    for places, inputs in batches(pairs):
        values[places] = run(variables, inputs)
    return float(spearmanr(values, pairs.labels).statistic)
