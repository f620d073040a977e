"""A published encoder of sentences, and how well it tells which of them mean the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.sentences import (
    Pairs,
    correlation,
    embedding,
    padded,
    read_pairs,
    similarity,
)
from experiments.transformer.settings import Config
from experiments.transformer.task import Task
from jaxcompress import knowledge, models
from jaxcompress.annotations import Function, Json
from jaxcompress.artifact import load_hugging_face
from jaxcompress.processes import agree

__all__ = ["compare_embeddings", "pairs_apply", "sentence_task"]

NETWORK: tuple[str, dict[str, Json]] = ("minilm_l6", {})


def sentence_task(config: Config) -> Task:
    """Read MiniLM and the STS benchmark: train for learning, dev for judging alone."""
    module = models.build(NETWORK[0])
    variables = load_hugging_face(config.weights_dir, module)
    tokenizer = config.weights_dir / "tokenizer.json"
    dev = read_pairs(config.data_dir / "sts-dev.tsv", tokenizer)
    train = read_pairs(config.data_dir / "sts-train.tsv", tokenizer, config.length)
    sequences = _distinct(train, config.length, config.seed)
    read = {"weights": variables, "sentences": sequences["tokens"]}
    agree("what was read", {name: knowledge.fingerprint(value) for name, value in read.items()})
    return Task(
        NETWORK,
        embedding(module),
        variables,
        sequences,
        distance="values",
        lesson=compare_embeddings,
        top_k=None,
        labels=None,
        mask=None,
        judge=lambda function, values: correlation(similarity(function), values, dev),
        metric="Spearman's correlation",
        weights_dir=config.weights_dir,
        lower_is_better=False,
    )


def _distinct(pairs: Pairs, length: int, seed: int) -> dict[str, np.ndarray]:
    """Return every sentence once, in random order."""
    sentences = sorted({tuple(tokens) for side in pairs.sides for tokens in side})
    order = np.random.default_rng(seed).permutation(len(sentences))
    return padded([list(sentences[i]) for i in order], length)


def pairs_apply(embed: Function) -> Function:
    """Return `apply(variables, {"first", "second"}) -> cosine [pairs, 1]`.

    The width of an embedding is an output, and stays; of their cosine nobody can tell the width.
    """
    apply = similarity(embed)
    return lambda variables, pair: apply(variables, (pair["first"], pair["second"]))[:, None]


def compare_embeddings(made: jax.Array, wanted: Any) -> jax.Array:
    """Compare cosines with the other sentences of a batch, and, of the same width, the embeddings.

    `sum_j (s_i s_j - t_i t_j)^2 / 8 + |s_i - t_i|^2`, `float32[batch]`; relations alone are what
    Park et al. 2019, "Relational knowledge distillation", compare.
    """
    made, wanted = made.astype(jnp.float32), jnp.asarray(wanted, jnp.float32)
    relations = jnp.square(made @ made.T - wanted @ wanted.T).sum(-1) / 8
    if made.shape != wanted.shape:
        return relations
    return relations + jnp.square(made - wanted).sum(-1)
